//! Stock nodes for tests that visit them.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use erl_dist::term::Term;
use fuzz_dist_runner::cluster::bootstrap::call;

/// For what comes about in a second or two unless the machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Of every stock node.
pub const COOKIE: &str = "right";

/// A stock node that knows nothing of us, and no EPMD: its port is given to it.
pub struct StockNode {
    erl: Child,
    pub name: String,
    pub port: u16,
}

impl StockNode {
    pub fn start(short: &str, net_ticktime_s: u32) -> StockNode {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("{short}@127.0.0.1");
        let mut erl = Command::new("erl")
            .args(["-noinput", "-name", &name, "-setcookie", COOKIE, "-start_epmd", "false"])
            .args(["-erl_epmd_port", &port.to_string()])
            .args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"])
            .args(["-kernel", "net_ticktime", &net_ticktime_s.to_string()])
            .args(["-eval", "io:put_chars(\"up\\n\")."])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(erl.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        StockNode { erl, name, port }
    }

    pub fn call(&self, module: &str, function: &str, arguments: Vec<Term>) -> Term {
        call(self.port, &self.name, COOKIE, (module, function, arguments), PATIENCE).unwrap()
    }
}

impl Drop for StockNode {
    fn drop(&mut self) {
        let _ = self.erl.kill();
        let _ = self.erl.wait();
    }
}

/// Compiles modules of `elixir_client/src` into a folder.
pub fn compile(modules: &[&str], folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../elixir_client/src");
    let files = modules.iter().map(|module| source.join(format!("{module}.erl")));
    let status = Command::new("erlc").arg("-o").arg(folder).args(files).status().unwrap();
    assert!(status.success());
}
