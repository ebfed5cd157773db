//! Sessions at a shell, compared with what they printed when somebody last looked.
//!
//! A session is a text file under `tests/cli/`; adding one takes no Rust:
//!
//! ```text
//! $ kes key create          a command for `sh`, in an empty directory that the session keeps
//! ! Error: no client …      a line on standard error; others are standard output
//! ? 1                       the exit code, unless it is 0
//! ```
//! Identities, API keys, times, the version, the session's directory and free ports are replaced by their names in angle
//! brackets, and `%` ends output that has no newline. `KES_UPDATE=1 cargo test --test cli` writes what the commands print
//! now. Sessions in `live/` have a server. Others may start one in the background: it ends with the session, and
//! `wait-for TEXT FILE` (in `tools/`) waits until it has said something.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by ending")]

use std::{
    cell::RefCell,
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

const UNSEAL: &str = "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=";

struct Shell {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    /// The process groups of all commands so far: what they left in the background ends with the session.
    groups: RefCell<Vec<Pid>>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        for group in self.groups.borrow().iter() {
            // nearly all are gone by now
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}

impl Shell {
    fn new() -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_kes")).parent().unwrap();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/tools");
        let path = format!("{}:{}:/usr/bin:/bin", binary.display(), tools.display());
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path().join(".tmp");
        fs::create_dir(&tmp).unwrap();
        let environment = vec![("PATH", path), ("TMPDIR", tmp.display().to_string())];
        Self { dir, environment, groups: RefCell::default() }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.process_group(0);
        command
    }

    fn run(&self, line: &str) -> String {
        let child = self.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.groups.borrow_mut().push(Pid::from_child(&child));
        let output = child.wait_with_output().unwrap();
        let normalise = |text: Vec<u8>| {
            let text = String::from_utf8(text).unwrap();
            normalise(&text.replace(&self.dir.path().display().to_string(), "<dir>"))
        };
        let (stdout, stderr) = (normalise(output.stdout), normalise(output.stderr));
        let mut text = format!("$ {line}\n{stdout}");
        if !stdout.is_empty() && !stdout.ends_with('\n') {
            text += "%\n";
        }
        for line in stderr.lines() {
            text += format!("! {line}").trim_end();
            text.push('\n');
        }
        match output.status.code() {
            Some(0) => text,
            Some(code) => text + &format!("? {code}\n"),
            None => text + "? killed\n",
        }
    }

    /// Runs every command of a session and gives it back with what the commands printed.
    fn session(&self, expected: &str) -> String {
        let mut actual = String::new();
        let mut lines = expected.lines().peekable();
        while let Some(line) = lines.next() {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    actual += &self.run(command);
                    // what was printed ends at the first empty line before a command or a comment
                    while lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("## ")).is_some()
                    {
                    }
                    actual.push('\n');
                }
                None => {
                    actual += line;
                    actual.push('\n');
                }
            }
        }
        format!("{}\n", actual.trim_end())
    }
}

/// Replaces what differs from run to run.
fn normalise(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.replace(env!("CARGO_PKG_VERSION"), "<version>");
    while !rest.is_empty() {
        let run = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
        if rest.starts_with("kes:v1:")
            && rest.get(7..51).is_some_and(|body| !body.contains(char::is_whitespace))
        {
            out += "<api key>";
            rest.drain(..51);
        } else if run == 64 {
            out += "<identity>";
            rest.drain(..64);
        } else if let Some(length) = time(&rest) {
            out += "<time>";
            rest.drain(..length);
        } else if let Some(length) = free_port(&rest) {
            out += "127.0.0.1:<port>";
            rest.drain(..length);
        } else if rest.starts_with("kes-dev-") && rest.len() >= 14 {
            out += "kes-dev-<random>";
            rest.drain(..14);
        } else {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            let step = run.max(if rest.starts_with("20") { 2 } else { next });
            out += &rest[..step];
            rest.drain(..step);
        }
    }
    out
}

/// Length of an address whose port the operating system chose.
fn free_port(text: &str) -> Option<usize> {
    let port = text.strip_prefix("127.0.0.1:")?;
    let digits = port.len() - port.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    (digits == 5).then_some("127.0.0.1:".len() + digits)
}

/// Length of the point in time that `text` begins with: `2026-11-21 22:34:47` or RFC 3339.
fn time(text: &str) -> Option<usize> {
    let shape =
        |c: char, s: char| if s == '0' { c.is_ascii_digit() } else { c == s || (s == ' ' && c == 'T') };
    let matches =
        text.chars().zip("0000-00-00 00:00:00".chars()).all(|(c, s)| shape(c, s)) && text.len() >= 19;
    matches.then(|| {
        let fraction = text[19..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len() - 19);
        19 + fraction + usize::from(text[19 + fraction..].starts_with('Z'))
    })
}

fn sessions(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Compares, or writes when that is asked for; the names of sessions that differ.
fn check(file: &Path, shell: &Shell) -> Option<String> {
    let expected = fs::read_to_string(file).unwrap();
    let actual = shell.session(&expected);
    if std::env::var_os("KES_UPDATE").is_some() {
        fs::write(file, actual).unwrap();
        return None;
    }
    (actual != expected).then(|| {
        let at = expected.lines().zip(actual.lines()).position(|(a, b)| a != b).unwrap_or_default();
        let show =
            |text: &str| text.lines().skip(at.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n    ");
        format!(
            "{} line {}\n  expected\n    {}\n  but was\n    {}",
            file.display(),
            at + 1,
            show(&expected),
            show(&actual)
        )
    })
}

/// Runs the sessions of a folder, a few at a time, and tells all differences.
fn run_all(folder: &str, session: impl Fn(&Path) -> Option<String> + Sync) {
    let files = Mutex::new(sessions(folder));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(file) = files.lock().unwrap().pop() else { return };
                    wrong.lock().unwrap().extend(session(&file));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn commands_without_a_server_print_what_their_sessions_say() {
    run_all("local", |file| check(file, &Shell::new()));
}

#[test]
fn commands_with_a_server_print_what_their_sessions_say() {
    run_all("live", live);
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn live(file: &Path) -> Option<String> {
    let mut shell = Shell::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("https://127.0.0.1:{port}");
    shell.environment.extend([
        ("KES_UNSEAL_KEY", UNSEAL.to_owned()),
        ("KES_SERVER", address),
        ("KES_CA", "public.crt".to_owned()),
        ("KES_CLIENT_CERT", "admin.crt".to_owned()),
        ("KES_CLIENT_KEY", "admin.key".to_owned()),
    ]);
    let setup = format!(
        "kes identity new --ip 127.0.0.1 server && \
         for i in system admin app; do kes identity new --key $i.key --cert $i.crt $i; done && \
         cat >init.yml <<EOF && kes init --config init.yml data\n\
         version: v1\n\
         address: 127.0.0.1:{port}\n\
         system: {{admin: {{identity: $(kes identity of system.crt)}}}}\n\
         tls: {{key: private.key, cert: public.crt}}\n\
         unseal: {{environment: {{name: KES_UNSEAL_KEY}}}}\n\
         enclave: {{default: {{admin: {{identity: $(kes identity of admin.crt)}}}}}}\n\
         EOF\n"
    );
    let made = shell.command(&setup).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let log = fs::File::create(shell.dir.path().join("server.log")).unwrap();
    let mut server = shell.command("exec kes server data");
    let server = Server(server.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !shell.command("kes status").output().unwrap().status.success() {
        let log = || fs::read_to_string(shell.dir.path().join("server.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "the server does not answer: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let wrong = check(file, &shell);
    drop(server);
    wrong
}
