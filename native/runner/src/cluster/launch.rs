//! How each VM is started: command line, names, flags and environment.
//!
//! A node keeps the command of the spec; what the run needs is added around it: `ERL_AFLAGS` (before
//! the command's own flags) gives the name and has the cookie read from its file ([`super::home`]), `ERL_ZFLAGS` (after them) the settings of the
//! kernel, which thus win. Every VM works in its own data folder, so that what it writes stays in the
//! store; code paths and programs with a slash that are relative count from where fuzz_dist runs.
//!
//! Each VM also finds the named TCP ports in its environment, as `FUZZ_DIST_PORT_AMQP_N1`: nodes those of
//! the plane, client VMs the real ones, since no fault touches clients.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use fuzz_dist_core::fault::{FaultSchedule, Plane};
use fuzz_dist_core::spec::{ClusterSpec, Naming, Placement, Spec};
use fuzz_dist_nemesis::guard::SpawnRequest;

use super::bootstrap::AGENT_MODULE;
use super::code_path;
use super::home;
use super::placeholders::Values;
use crate::nemesis::planes::{self, NodeStart};
use crate::request::RunError;

/// The host part of node names.
pub(super) const HOST: &str = "127.0.0.1";

/// A client VM when the spec does not say: Elixir, kept alive, booted by fuzz_dist.
const CLIENT_COMMAND: &[&str] =
    &["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"];

/// Named by commands of nodes that boot with our code.
pub(super) const BOOT_MODULE: &str = "fuzz_dist_boot";

/// Seconds that a dying VM may spend on its crash dump; its name stays taken meanwhile.
const CRASH_DUMP_SECONDS: u32 = 2;

/// Below the range from which Linux takes ports for outgoing connections, so that none is taken away
/// between here and the start of the node.
pub(super) const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Set by the BEAM that may have started us; a node that inherited them would run other code.
const FOREIGN_VARIABLES: &[&str] = &[
    "ROOTDIR",
    "BINDIR",
    "EMU",
    "PROGNAME",
    "ERL_EPMD_ADDRESS",
    "RELEASE_ROOT",
    "RELEASE_SYS_CONFIG",
];

/// One VM of a run and what it is given.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `n1` or `c1`.
    pub short: String,
    /// Among the nodes, or among the client VMs, from 1.
    pub index: usize,
    pub is_client: bool,
    /// The host part of its name: its address unless a fault says otherwise.
    pub host: String,
    /// Where it listens: 127.0.0.1, or an address of its own in a namespace.
    pub address: Ipv4Addr,
    /// What stands before its command: what runs it in its namespace.
    pub around: Vec<String>,
    /// The host parts of the nodes, by short name.
    pub hosts: BTreeMap<String, String>,
    /// Its cookie, if it is not that of the cluster.
    pub cookie: Option<String>,
    /// `nodes/<short>` of the run.
    pub folder: PathBuf,
    pub epmd_port: u16,
    /// Where this node itself listens, by name.
    pub ports: BTreeMap<String, u16>,
    /// Where this VM reaches a port (name, node).
    pub peers: BTreeMap<(String, String), u16>,
}

impl Place {
    /// `n1@127.0.0.1`.
    pub fn full_name(&self) -> String {
        format!("{}@{}", self.short, self.host)
    }

    pub fn output(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub fn create_folders(&self) -> Result<(), RunError> {
        for folder in [self.data_dir(), self.log_dir()] {
            std::fs::create_dir_all(&folder)
                .map_err(|e| RunError::Internal(format!("{}: {e}", folder.display())))?;
        }
        Ok(())
    }

    /// For an environment, which nobody else can read.
    fn values(&self, cookie: &str) -> Values {
        let mut values = self.public_values();
        values.words.insert("cookie", cookie.to_owned());
        values
    }

    /// For a command line, which everybody can read.
    fn public_values(&self) -> Values {
        let words = BTreeMap::from([
            ("name", self.full_name()),
            ("short", self.short.clone()),
            ("index", self.index.to_string()),
            ("cookie_file", self.cookie_file().display().to_string()),
            ("data_dir", self.data_dir().display().to_string()),
            ("log_dir", self.log_dir().display().to_string()),
            ("epmd_port", self.epmd_port.to_string()),
            ("host", self.host.clone()),
        ]);
        let (hosts, ports, peers) = (self.hosts.clone(), self.ports.clone(), self.peers.clone());
        Values { words, hosts, ports, peers }
    }
}

/// What is the same for all VMs of a run.
#[derive(Debug)]
pub(super) struct Launcher {
    pub spec: Spec,
    pub cookie: String,
    /// Stands in command lines, where everybody reads it: worth nothing.
    pub decoy: String,
    pub core: SocketAddr,
    pub token: String,
    pub run: String,
    /// Our own compiled code.
    pub ebin: PathBuf,
    /// Planes that may have a say in how nodes are started.
    pub planes: Vec<Plane>,
    /// The faults, if they are given and not drawn from the spec.
    pub schedule: Option<FaultSchedule>,
}

impl Launcher {
    /// How this VM is started.
    pub fn request(&self, place: &Place) -> Result<SpawnRequest, RunError> {
        let values = place.values(self.cookie_of(place));
        let key = if place.is_client { "client.command" } else { "cluster.command" };
        let fill = |key: &str, text: &str| {
            values.fill(text).map_err(|error| RunError::Input(format!("{key}: {error}")))
        };
        let mut argv = Vec::new();
        let public = place.public_values();
        for argument in self.command(place) {
            let filled = public.fill(&argument);
            argv.push(filled.map_err(|error| RunError::Input(format!("{key}: {error}")))?);
        }
        if let Some(program) = argv.first_mut()
            && program.contains('/')
        {
            *program = absolute(Path::new(program)).display().to_string();
        }
        let mut env = self.environment(place);
        if !place.is_client {
            for (variable, text) in &self.spec.cluster.env {
                let text = fill(&format!("cluster.env.{variable}"), text)?;
                if !matches!(variable.as_str(), "ERL_AFLAGS" | "ERL_ZFLAGS") {
                    env.insert(variable.clone(), text);
                }
            }
        }
        let fill_flags = |key: &str, text: &str| {
            public.fill(text).map_err(|error| RunError::Input(format!("{key}: {error}")))
        };
        env.insert("ERL_AFLAGS".into(), self.first_flags(place, &fill_flags)?);
        env.insert("ERL_ZFLAGS".into(), self.last_flags(place, &fill_flags)?);
        let mut request = SpawnRequest {
            key: place.short.clone(),
            argv,
            env,
            env_remove: FOREIGN_VARIABLES.iter().map(|name| (*name).to_owned()).collect(),
            cwd: Some(place.data_dir()),
            output: place.output(),
            outlives_guard: false,
        };
        if !place.is_client {
            self.prepare(place, &mut request)?;
        }
        request.argv.splice(0..0, place.around.iter().cloned());
        Ok(request)
    }

    /// What planes change about the start of a node.
    fn prepare(&self, place: &Place, request: &mut SpawnRequest) -> Result<(), RunError> {
        let registered = self.planes.iter().filter_map(|plane| planes::registered(*plane));
        for prepare in registered.filter_map(|registration| registration.prepare) {
            prepare(&mut NodeStart {
                spec: &self.spec,
                schedule: self.schedule.as_ref(),
                node: &place.short,
                folder: &place.folder,
                request,
            })?;
        }
        Ok(())
    }

    /// The cookie that a VM is started with.
    pub fn cookie_of<'a>(&'a self, place: &'a Place) -> &'a str {
        place.cookie.as_deref().unwrap_or(&self.cookie)
    }

    fn command(&self, place: &Place) -> Vec<String> {
        match (place.is_client, &self.spec.client.command, &self.spec.cluster.command) {
            (true, command, _) if command.is_empty() => {
                CLIENT_COMMAND.iter().map(|argument| (*argument).to_owned()).collect()
            }
            (true, command, _) | (false, _, command) => command.clone(),
        }
    }

    fn environment(&self, place: &Place) -> BTreeMap<String, String> {
        let dump = place.log_dir().join("erl_crash.dump");
        let mut env = BTreeMap::from([
            ("ERL_EPMD_PORT".to_owned(), place.epmd_port.to_string()),
            ("ERL_CRASH_DUMP".to_owned(), dump.display().to_string()),
            ("ERL_CRASH_DUMP_SECONDS".to_owned(), CRASH_DUMP_SECONDS.to_string()),
            ("FUZZ_DIST_CORE".to_owned(), self.core.to_string()),
            ("FUZZ_DIST_TOKEN".to_owned(), self.token.clone()),
            ("FUZZ_DIST_NODE".to_owned(), place.short.clone()),
            ("FUZZ_DIST_RUN".to_owned(), self.run.clone()),
        ]);
        let own = if place.is_client { &BTreeMap::new() } else { &self.spec.cluster.env };
        env.extend(home::variables(place, own));
        if place.is_client || self.spec.placement == Placement::Node {
            env.insert("FUZZ_DIST_WORKER".into(), "1".into());
        }
        if !place.is_client && self.spec.cluster.naming == Naming::Release {
            env.insert("RELEASE_NODE".into(), place.full_name());
            // Its start script puts this on the command line.
            env.insert("RELEASE_COOKIE".into(), self.decoy.clone());
            env.insert("RELEASE_DISTRIBUTION".into(), "name".into());
            // Releases write their generated configuration there, by default next to the release itself.
            env.insert("RELEASE_TMP".into(), place.data_dir().join("tmp").display().to_string());
        }
        for ((name, node), port) in &place.peers {
            let variable = format!("FUZZ_DIST_PORT_{name}_{node}").to_ascii_uppercase();
            env.insert(variable, port.to_string());
        }
        for (node, host) in &place.hosts {
            env.insert(format!("FUZZ_DIST_HOST_{node}").to_ascii_uppercase(), host.clone());
        }
        env
    }

    /// `ERL_AFLAGS`: ours, then those of the spec, then those of our own environment.
    fn first_flags<F>(&self, place: &Place, fill: &F) -> Result<String, RunError>
    where
        F: Fn(&str, &str) -> Result<String, RunError>,
    {
        let name = place.full_name();
        let named = ["-name", &name];
        // Twice: the VM then reads its cookie from the file.
        let decoys = ["-setcookie", &self.decoy, "-setcookie", &self.decoy];
        let ours = match (place.is_client, self.spec.cluster.naming) {
            (true, _) => [&named[..], &decoys, &["-hidden"]].concat(),
            (false, Naming::Flags) => [&named[..], &decoys].concat(),
            (false, Naming::Release) => decoys.to_vec(),
            (false, Naming::Command) => Vec::new(),
        };
        let mut flags: Vec<String> = ours.into_iter().map(quote).collect();
        flags.extend(self.given_flags(place, "ERL_AFLAGS", fill)?);
        Ok(flags.join(" "))
    }

    /// `ERL_ZFLAGS`: those of our own environment, those of the spec, then ours.
    fn last_flags<F>(&self, place: &Place, fill: &F) -> Result<String, RunError>
    where
        F: Fn(&str, &str) -> Result<String, RunError>,
    {
        let ClusterSpec { net_ticktime_s, net_tickintensity, .. } = self.spec.cluster;
        let overlapping = self.spec.cluster.prevent_overlapping_partitions;
        let mut ours: Vec<String> = ["-start_epmd", "false"].map(String::from).to_vec();
        let settings = [
            ("net_ticktime", net_ticktime_s.to_string()),
            ("net_tickintensity", net_tickintensity.to_string()),
            ("prevent_overlapping_partitions", overlapping.to_string()),
            ("inet_dist_use_interface", erlang_address(place.address)),
        ];
        for (setting, value) in settings {
            ours.extend(["-kernel".to_owned(), setting.to_owned(), value]);
        }
        if place.is_client {
            ours.extend(["-connect_all", "false"].map(String::from));
        } else if let Some(mode) = self.spec.cluster.time_warp {
            ours.extend(["+C", mode.as_str()].map(String::from));
        }
        let (paths, ours_too) = match place.is_client {
            true => (&self.spec.client.code_paths, true),
            false => (&self.spec.cluster.code_paths, self.nodes_contain_us()),
        };
        for path in code_path::expand(paths) {
            ours.extend(["-pa".to_owned(), path.display().to_string()]);
        }
        if ours_too {
            // At the end: a project's own build of fuzz_dist comes first.
            ours.extend(["-pz".to_owned(), self.ebin.display().to_string()]);
        }
        let mut flags = self.given_flags(place, "ERL_ZFLAGS", fill)?;
        flags.extend(ours.iter().map(|flag| quote(flag)));
        Ok(flags.join(" "))
    }

    /// Nodes that run our worker, or start it or the agent, need our code; others are left as they are.
    fn nodes_contain_us(&self) -> bool {
        let boots = |text: &String| [BOOT_MODULE, AGENT_MODULE].iter().any(|of| text.contains(of));
        self.spec.placement == Placement::Node || self.spec.cluster.command.iter().any(boots)
    }

    fn given_flags<F>(
        &self,
        place: &Place,
        variable: &str,
        fill: &F,
    ) -> Result<Vec<String>, RunError>
    where
        F: Fn(&str, &str) -> Result<String, RunError>,
    {
        let mut flags = Vec::new();
        flags.extend(std::env::var(variable).ok().filter(|flags| !flags.trim().is_empty()));
        if let Some(text) = self.spec.cluster.env.get(variable)
            && !place.is_client
        {
            flags.push(fill(&format!("cluster.env.{variable}"), text)?);
        }
        Ok(flags)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `{127,0,0,1}`.
fn erlang_address(address: Ipv4Addr) -> String {
    format!("{{{}}}", address.octets().map(|octet| octet.to_string()).join(","))
}

/// As `erl` reads its flag variables: a backslash takes the next character as it is.
pub(crate) fn quote(flag: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,{}@:=+".contains(c);
    flag.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}

/// So many different free TCP ports on 127.0.0.1.
pub(super) fn free_ports(count: usize) -> Result<Vec<u16>, RunError> {
    // Not always the same first: several runs may start at once.
    let start = std::process::id() as usize * 97 % PORTS.len();
    let candidates = PORTS.cycle().skip(start).take(PORTS.len());
    // Held until all are chosen.
    let held: HashMap<u16, TcpListener> = candidates
        .filter_map(|port| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?)))
        .take(count)
        .collect();
    if held.len() < count {
        return Err(RunError::Input(format!("there are no {count} free TCP ports on 127.0.0.1")));
    }
    Ok(held.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::spec::TimeWarp;

    fn launcher(change: impl FnOnce(&mut Spec)) -> Launcher {
        let mut spec = Spec::default();
        change(&mut spec);
        Launcher {
            spec,
            cookie: "c00".into(),
            decoy: "d00".into(),
            core: ([127, 0, 0, 1], 4000).into(),
            token: "t".into(),
            run: "r".into(),
            ebin: "/our/ebin".into(),
            planes: Vec::new(),
            schedule: None,
        }
    }

    fn place(short: &str, is_client: bool) -> Place {
        Place {
            short: short.into(),
            index: 1,
            is_client,
            host: HOST.into(),
            address: Ipv4Addr::LOCALHOST,
            around: Vec::new(),
            hosts: BTreeMap::from([("n2".into(), HOST.into())]),
            cookie: None,
            folder: format!("/run/nodes/{short}").into(),
            epmd_port: 4370,
            ports: BTreeMap::from([("amqp".into(), 20_001)]),
            peers: BTreeMap::from([(("amqp".into(), "n2".into()), 20_002)]),
        }
    }

    #[test]
    fn a_node_gets_name_cookie_ports_and_kernel_settings() {
        let launcher = launcher(|spec| {
            spec.cluster.net_ticktime_s = 4;
            spec.cluster.time_warp = Some(TimeWarp::MultiTimeWarp);
            spec.cluster.code_paths = vec!["/with space/ebin".into()];
            spec.cluster.command =
                ["erl", "-eval", "x({port:amqp}, {peer:amqp:n2})"].map(Into::into).to_vec();
            spec.cluster.env.insert("DIR".into(), "{data_dir}".into());
            spec.cluster.env.insert("ERL_ZFLAGS".into(), "-mine {index}".into());
        });
        let request = launcher.request(&place("n1", false)).unwrap();
        assert_eq!(request.argv, ["erl", "-eval", "x(20001, 20002)"]);
        assert_eq!(request.env["ERL_AFLAGS"], "-name n1@127.0.0.1 -setcookie d00 -setcookie d00");
        assert_eq!(request.env["HOME"], "/run/nodes/n1/home");
        let last = &request.env["ERL_ZFLAGS"];
        assert!(last.starts_with("-mine 1 -start_epmd false -kernel net_ticktime 4 "), "{last}");
        assert!(last.ends_with(r"-pa /with\ space/ebin -pz /our/ebin"), "{last}");
        assert!(last.contains("-kernel inet_dist_use_interface {127,0,0,1}"), "{last}");
        assert!(last.contains(" +C multi_time_warp "), "{last}");
        assert_eq!(request.env["DIR"], "/run/nodes/n1/data");
        assert_eq!(request.env["ERL_EPMD_PORT"], "4370");
        assert_eq!(request.env["FUZZ_DIST_CORE"], "127.0.0.1:4000");
        assert_eq!(request.env["FUZZ_DIST_WORKER"], "1");
        assert_eq!(request.env["FUZZ_DIST_PORT_AMQP_N2"], "20002");
    }

    #[test]
    fn a_command_that_starts_the_agent_finds_it() {
        let launcher = launcher(|spec| {
            spec.placement = Placement::Client;
            spec.cluster.command = ["erl", "-s", "fuzz_dist_agent"].map(String::from).to_vec();
        });
        let flags = &launcher.request(&place("n1", false)).unwrap().env["ERL_ZFLAGS"];
        assert!(flags.ends_with("-pz /our/ebin"), "{flags}");
    }

    #[test]
    fn stock_nodes_are_left_alone_and_releases_get_their_variables() {
        let launcher = launcher(|spec| {
            spec.placement = Placement::Client;
            spec.cluster.naming = Naming::Release;
            spec.cluster.command = vec!["rel/bin/app".into(), "start".into()];
        });
        let request = launcher.request(&place("n1", false)).unwrap();
        assert!(Path::new(&request.argv[0]).is_absolute(), "{:?}", request.argv);
        assert_eq!(request.env["ERL_AFLAGS"], "-setcookie d00 -setcookie d00");
        assert!(!request.env["ERL_ZFLAGS"].contains("/our/ebin"));
        assert!(!request.env.contains_key("FUZZ_DIST_WORKER"));
        assert_eq!(request.env["RELEASE_NODE"], "n1@127.0.0.1");
        assert_eq!(request.env["RELEASE_COOKIE"], "d00");

        let client = launcher.request(&place("c1", true)).unwrap();
        assert_eq!(client.argv[0], "elixir");
        assert!(client.env["ERL_AFLAGS"].ends_with("-hidden"), "{}", client.env["ERL_AFLAGS"]);
        assert!(client.env["ERL_ZFLAGS"].contains("-connect_all false"));
        assert!(client.env["ERL_ZFLAGS"].ends_with("-pz /our/ebin"));
        assert!(!client.env.contains_key("RELEASE_NODE"));
    }

    #[test]
    fn a_node_in_a_namespace_is_started_there_and_listens_at_its_address() {
        let launcher = launcher(|spec| {
            spec.cluster.command = ["app", "{host}", "{host:n2}"].map(Into::into).to_vec();
        });
        let address = Ipv4Addr::new(10, 200, 7, 1);
        let around = ["ip", "netns", "exec", "x"].map(Into::into).to_vec();
        let hosts = BTreeMap::from([("n2".into(), "10.200.7.2".into())]);
        let host = address.to_string();
        let place = Place { host, address, around, hosts, ..place("n1", false) };
        let request = launcher.request(&place).unwrap();
        assert_eq!(request.argv.join(" "), "ip netns exec x app 10.200.7.1 10.200.7.2");
        assert!(request.env["ERL_AFLAGS"].starts_with("-name n1@10.200.7.1 "));
        assert!(request.env["ERL_ZFLAGS"].contains("inet_dist_use_interface {10,200,7,1}"));
        assert_eq!(request.env["FUZZ_DIST_HOST_N2"], "10.200.7.2");
    }

    #[test]
    fn a_cookie_stands_in_environments_only() {
        let launcher = launcher(|spec| {
            spec.cluster.command = ["app", "{cookie_file}"].map(Into::into).to_vec();
            spec.cluster.env.insert("APP_COOKIE".into(), "{cookie}".into());
        });
        for place in [place("n1", false), place("c1", true)] {
            let request = launcher.request(&place).unwrap();
            let public = [request.argv.join(" "), request.env["ERL_AFLAGS"].clone()];
            let public = format!("{public:?} {}", request.env["ERL_ZFLAGS"]);
            assert!(!public.contains("c00"), "{public}");
        }
        let node = launcher.request(&place("n1", false)).unwrap();
        assert_eq!(node.argv[1], "/run/nodes/n1/home/.erlang.cookie");
        assert_eq!(node.env["APP_COOKIE"], "c00");
    }

    #[test]
    fn a_home_of_the_spec_is_kept_and_the_cookie_found_elsewhere() {
        let launcher = launcher(|spec| {
            drop(spec.cluster.env.insert("HOME".into(), "/srv/app".into()));
        });
        let env = launcher.request(&place("n1", false)).unwrap().env;
        assert_eq!(env["HOME"], "/srv/app");
        assert_eq!(env["XDG_CONFIG_HOME"], "/run/nodes/n1/home/.config");
    }

    #[test]
    fn an_unknown_placeholder_names_its_key() {
        let in_command = launcher(|spec| spec.cluster.command = vec!["erl".into(), "{nam}".into()]);
        let error = in_command.request(&place("n1", false)).unwrap_err();
        assert_eq!(error.exit_code(), 254);
        assert!(error.to_string().starts_with("cluster.command: the placeholder {nam}"), "{error}");
        let in_env = launcher(|spec| drop(spec.cluster.env.insert("A".into(), "{port:x}".into())));
        let error = in_env.request(&place("n1", false)).unwrap_err().to_string();
        assert!(error.starts_with("cluster.env.A: the placeholder {port:x}"), "{error}");
    }

    #[test]
    fn free_ports_are_different() {
        let mut ports = free_ports(5).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }
}
