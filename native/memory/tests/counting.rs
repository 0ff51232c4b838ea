//! What is held is counted, whoever allocates and whoever frees.

use fuzz_dist_memory::{Counting, held_bytes, is_counted};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LARGE: usize = 64 << 20;
/// What threads may not have told yet.
const SLACK: u64 = 2 << 20;

fn is_near(a: u64, b: u64) -> bool {
    a.abs_diff(b) <= SLACK
}

// One test: several would count each other's memory.
#[test]
fn what_is_held_is_counted() {
    drop(vec![1u8; LARGE]);
    assert!(is_counted());
    let before = held_bytes();
    let large = vec![1u8; LARGE];
    assert!(is_near(held_bytes(), before + LARGE as u64));

    let mut grown = large;
    grown.reserve_exact(2 * LARGE);
    assert!(is_near(held_bytes(), before + 3 * LARGE as u64), "a reallocation counts its growth");

    let sent = std::thread::spawn(move || drop(grown)).join();
    assert!(sent.is_ok() && is_near(held_bytes(), before), "freed by another thread");

    let small: Vec<Box<[u8; 64]>> = (0..1 << 18).map(|_| Box::new([0; 64])).collect();
    assert!(is_near(held_bytes(), before + (small.len() as u64) * 72), "many small ones");
    drop(small);
    assert!(is_near(held_bytes(), before));
}
