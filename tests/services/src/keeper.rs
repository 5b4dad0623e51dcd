//! [`Server`]: one server's process, its directory, and its end.
//!
//! A shell stands between this process and the server. It reads from a pipe that nobody writes to: when this process ends, by
//! whatever means, the pipe does, and the shell stops the server, by its id, and removes its directory.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::free_port;

/// Arguments: the signal that stops the server, its directory, then its command. The server's id goes to standard output.
const KEEPER: &str = r#"signal=$1 directory=$2
shift 2
"$@" >"$directory/log" 2>&1 </dev/null &
server=$!
echo "$server"
read -r _
kill -s "$signal" "$server"
wait "$server"
rm -rf "$directory"
"#;

/// How long a server may take to answer, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);
/// How many lines of a log are shown.
const SHOWN_LINES: usize = 40;
/// Somebody else may take a port between our looking for it and the server's listening.
const ATTEMPTS: usize = 5;

/// What a server is run from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// Debian's name for it.
    pub(crate) name: &'static str,
    /// Its user, for servers that refuse to run as root.
    pub(crate) account: &'static str,
    /// The signal that stops it soon and in order.
    pub(crate) stop: &'static str,
}

/// A directory that is removed with the server that runs in it.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    package: Package,
}

/// A server that runs. Dropped, it is stopped.
#[derive(Debug)]
pub(crate) struct Server {
    keeper: Child,
    pid: u32,
    directory: Directory,
}

/// Whether servers must be run as somebody else.
fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")))
}

impl Package {
    /// Where `program` of this package is.
    pub(crate) fn program(self, program: &str) -> Result<PathBuf> {
        let mut places: Vec<PathBuf> =
            ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(PathBuf::from).into();
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
        versions.sort();
        places.extend(versions.into_iter().rev());
        let found = places.into_iter().map(|place| place.join(program)).find(|path| path.is_file());
        found.with_context(|| {
            let name = self.name;
            format!(
                "the Debian package {name} is missing, and with it `{program}`: run tests/cluster/install.sh services"
            )
        })
    }

    /// A command that runs `program` as the server's user.
    pub(crate) fn command(self, program: &Path) -> Result<Command> {
        let mut command = Command::new("setpriv");
        // For the case that somebody kills the shell.
        command.args(["--pdeathsig", self.stop]);
        if is_root()? {
            command.args(["--reuid", self.account, "--regid", self.account, "--init-groups"]);
        }
        command.arg("--").arg(program);
        Ok(command)
    }

    /// A new directory, of the server's user.
    pub(crate) fn directory(self) -> Result<Directory> {
        // Removed by the shell, which lives longer than we do.
        let path = tempfile::Builder::new().prefix(&format!("spindle-{}-", self.name)).tempdir()?.keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let directory = Directory { path, package: self };
        if is_root()? {
            let account = format!("{}:", self.account);
            run(Command::new("chown").arg(account).arg(directory.path()))?;
        }
        Ok(directory)
    }

    /// Starts a server: `attempt` says how, given a directory and two free ports. Done again with other ports if it ends
    /// before it is ready.
    pub(crate) fn start<T>(
        self,
        attempt: impl Fn(&Directory, [u16; 2]) -> Result<(Command, T)>,
        ready: impl Fn(&T) -> Result<()>,
    ) -> Result<(Server, T)> {
        show_logs_on_panic();
        let mut problem = None;
        for _ in 0..ATTEMPTS {
            let directory = self.directory()?;
            let (command, server) = attempt(&directory, [free_port(), free_port()])?;
            let running = directory.run(&command)?;
            match running.wait_until(|| ready(&server)) {
                Ok(()) => return Ok((running, server)),
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.context("no attempt was made")?).with_context(|| format!("{} does not start", self.name))
    }
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only the server's user reads.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        if is_root()? {
            run(Command::new("chown").arg(format!("{}:", self.package.account)).arg(&path))?;
        }
        Ok(path)
    }

    fn run(self, command: &Command) -> Result<Server> {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper", self.package.stop]).arg(&self.path);
        keeper.arg(command.get_program()).args(command.get_args());
        // Apart from the terminal's group: Ctrl-C ends this process, and that ends the shell.
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut keeper = keeper.spawn().context("cannot run `sh`")?;
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().context("the shell has no output")?).read_line(&mut pid)?;
        let pid = pid.trim().parse().context("the shell did not say the server's id")?;
        LOGS.lock().unwrap_or_else(PoisonError::into_inner).push(self.path.join("log"));
        Ok(Server { keeper, pid, directory: self })
    }
}

impl Server {
    /// Waits until `ready` is, as long as the server runs.
    fn wait_until(&self, ready: impl Fn() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        loop {
            let problem = match ready() {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            let over = began.elapsed() > PATIENCE;
            if over || !self.runs() {
                let log = last_lines(&self.directory.path.join("log"));
                let what = if over { "it does not answer" } else { "it has ended" };
                return Err(problem.context(format!("{what}; the end of its log:\n{log}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether the process is there and no zombie.
    fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // Nobody is left to be told.
        let _ended = self.keeper.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = || [output.stdout.as_slice(), &output.stderr].concat();
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&said()));
    Ok(())
}

/// Sends bytes, and waits for others.
pub(crate) fn talk(port: u16, say: &[u8], expected: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(say)?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    if answer != expected {
        bail!("it answers {:?}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// The logs of all servers that were started.
static LOGS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A test that fails shows what the servers said.
fn show_logs_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            for log in LOGS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                eprint_log(log);
            }
        }));
    });
}

#[expect(clippy::print_stderr, reason = "a failed test's output is what this is for")]
fn eprint_log(log: &Path) {
    eprintln!("--- the end of {}:\n{}", log.display(), last_lines(log));
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n")
}
