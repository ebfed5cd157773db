//! Sessions at a shell, compared with what they printed when somebody last looked.
//!
//! A session is a text file under `tests/cli/`; adding one takes no Rust:
//!
//! ```text
//! $ kes key create          a command for `sh`, in an empty directory that the session keeps
//! ! Error: no client …      a line on standard error; others are standard output
//! ? 1                       the exit code, unless it is 0
//! ```
//! Identities, API keys, times and the version are replaced by their names in angle brackets, and `%` ends output that
//! has no newline. `KES_UPDATE=1 cargo test --test cli` writes what the commands print now. Sessions in `live/` have a server.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by ending")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const UNSEAL: &str = "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=";

struct Shell {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Shell {
    fn new() -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_kes")).parent().unwrap();
        let path = format!("{}:/usr/bin:/bin", binary.display());
        Self { dir: tempfile::tempdir().unwrap(), environment: vec![("PATH", path)] }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        let stdout = normalise(&String::from_utf8(output.stdout).unwrap());
        let stderr = normalise(&String::from_utf8(output.stderr).unwrap());
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
        } else {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            let step = run.max(if rest.starts_with("20") { 2 } else { next });
            out += &rest[..step];
            rest.drain(..step);
        }
    }
    out
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

#[test]
fn commands_without_a_server_print_what_their_sessions_say() {
    let wrong: Vec<_> = sessions("local").iter().filter_map(|file| check(file, &Shell::new())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn commands_with_a_server_print_what_their_sessions_say() {
    let wrong: Vec<_> = sessions("live").iter().filter_map(|file| live(file)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
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
    let wrong = check(file, &shell).map(|text| text.replace(&port.to_string(), "<port>"));
    drop(server);
    wrong
}
