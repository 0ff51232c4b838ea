//! Runs get folders of their own, and are found by what people type.

use std::collections::HashSet;
use std::fs;

use super::*;

const START_NS: i64 = 1_795_175_641_123_000_000;

#[test]
fn a_run_has_a_folder_and_links() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    let run = Store::create_run(&store, "register", START_NS).unwrap();
    assert_eq!(run.id(), "20261120T115401.123Z");
    assert!(run.path().is_dir());
    let target = fs::read_link(store.join("latest")).unwrap();
    assert_eq!(target, Path::new("register/20261120T115401.123Z"));
    let target = fs::read_link(store.join("register/latest")).unwrap();
    assert_eq!(target, Path::new("20261120T115401.123Z"));

    // Moved elsewhere, everything still resolves.
    let moved = root.path().join("moved");
    fs::rename(&store, &moved).unwrap();
    let found = find_run(&moved, "latest").unwrap();
    assert_eq!(found.path(), moved.join("register/20261120T115401.123Z"));
}

#[test]
fn runs_of_one_millisecond_stay_apart() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Store::create_run(store, "set", START_NS).unwrap().id()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 8);
    assert!(ids.iter().all(|id| parse_utc_basic(id).is_some()));
    // Nothing but runs and links is left behind.
    let names: Vec<String> = fs::read_dir(store.join("set"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 9, "{names:?}");
}

#[test]
fn runs_are_found_by_what_people_type() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path();
    let old = Store::create_run(store, "register", START_NS).unwrap();
    let new = Store::create_run(store, "register", START_NS + 5_000_000_000).unwrap();
    let other = Store::create_run(store, "set", START_NS + 1_000_000_000).unwrap();
    fs::write(old.spec(), "").unwrap();

    assert_eq!(find_run(store, "latest").unwrap(), other, "the run that was created last");
    assert_eq!(find_run(store, "register").unwrap(), new);
    assert_eq!(find_run(store, "register/latest").unwrap(), new);
    assert_eq!(find_run(store, &old.id()).unwrap(), old);
    assert_eq!(find_run(store, &format!("register/{}/", old.id())).unwrap(), old);
    let canonical = RunDir::at(fs::canonicalize(old.path()).unwrap());
    assert_eq!(find_run(store, &old.path().display().to_string()).unwrap(), canonical);
    assert_eq!(find_run(store, &old.spec().display().to_string()).unwrap(), canonical);
    fs::remove_file(store.join("latest")).unwrap();
    assert_eq!(find_run(store, "latest").unwrap(), new, "without the link, the newest start");

    let ids: Vec<String> = list_runs(store).unwrap().iter().map(RunEntry::reference).collect();
    let expected = [("register", &new), ("set", &other), ("register", &old)]
        .map(|(test, run)| format!("{test}/{}", run.id()));
    assert_eq!(ids, expected);
}

#[test]
fn what_is_not_found_gets_a_hint() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path();
    let none = find_run(store.join("nowhere"), "latest").unwrap_err().to_string();
    assert!(none.contains("holds no runs"), "{none}");
    Store::create_run(store, "register", START_NS).unwrap();
    let near = find_run(store, "registre").unwrap_err().to_string();
    assert!(near.contains("did you mean register"), "{near}");
    let far = find_run(store, "zzz").unwrap_err().to_string();
    assert!(far.contains("register/20261120T115401.123Z"), "{far}");
}

#[test]
fn names_that_leave_the_store_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for name in ["", "latest", "..", "a/b", ".hidden", "a\nb"] {
        let refused = Store::create_run(root.path(), name, START_NS);
        assert!(matches!(refused, Err(StoreError::BadTestName { .. })), "{name:?}");
    }
    fs::create_dir(root.path().join("latest")).unwrap();
    let in_the_way = Store::create_run(root.path(), "set", START_NS);
    assert!(matches!(in_the_way, Err(StoreError::LinkInTheWay { .. })));
    assert!(root.path().join("latest").is_dir());
}
