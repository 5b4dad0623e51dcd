//! The servers as a process of tests sees them.

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// In the environment of the process that is killed.
const CHILD: &str = "SPINDLE_TEST_SERVICES_CHILD";

/// Waits until `done`.
fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[test]
fn all_servers_run_at_once_and_are_shared() {
    let redis = test_services::redis().unwrap();
    assert_eq!(redis.port, test_services::redis().unwrap().port);
    let mosquitto = test_services::mosquitto().unwrap();
    assert!(listens(redis.tls_port) && listens(mosquitto.tls_port));
    let postgres = test_services::postgres().unwrap();
    postgres.create("one").unwrap();
    postgres.run("one", "create table seen (it int)").unwrap();
    assert!(postgres.create("one").is_err());
    let mariadb = test_services::mariadb().unwrap();
    mariadb.create("one").unwrap();
    assert!(mariadb.create("one").is_err());
}

#[test]
fn servers_are_gone_when_their_process_is_killed() {
    if std::env::var_os(CHILD).is_some() {
        // The other side: a server, its port, and then nothing.
        println!("port={}", test_services::redis().unwrap().port);
        std::io::stdout().flush().unwrap();
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "servers_are_gone_when_their_process_is_killed", "--nocapture"]);
    child.env(CHILD, "yes").stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let port = lines.find_map(|line| line.unwrap().split_once("port=").map(|(_, port)| port.parse::<u16>().unwrap()));
    let port = port.unwrap();
    let directories = || {
        let listed = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        let ours = listed.filter(|entry| entry.file_name().to_string_lossy().starts_with("spindle-redis-server-"));
        ours.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    assert!(listens(port));
    let of_child: Vec<_> = directories().into_iter().filter(|path| mentions(&path.join("log"), port)).collect();
    assert_eq!(of_child.len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the server is gone", || !listens(port));
    until("its data is gone", || !of_child[0].exists());
}

fn mentions(log: &Path, port: u16) -> bool {
    std::fs::read_to_string(log).is_ok_and(|log| log.contains(&format!("port={port}.")))
}
