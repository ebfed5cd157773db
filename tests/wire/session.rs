//! Sessions of the original programs at a shell, against our server.
//!
//! ```text
//! $ old-kes key create a    a command for `sh`, in the stage's directory
//! ! Error: …                a line on standard error; others are standard output
//! ? 1                       the exit code, unless it is 0
//! ```
//! A session that begins with `# compatibility: v2025` gets a server with that setting. `old-kes` is KES v0.22.3, `new-kes` v0.23.0, `sdk-…` are the clients in `tests/peers`, `kes` is ours. `as NAME COMMAND`
//! runs a command as another identity of the stage than `admin`; `steady` gives sizes and durations names. What differs from run to run gets a name in angle
//! brackets; `%` ends output without a newline. `KES_UPDATE=1 cargo test --test wire` writes what is printed now.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::stage::{Running, Server, Stage, peer};

/// Runs a command as somebody else.
const AS: &str = "#!/bin/sh\nwho=$1; shift\nKES_CLIENT_KEY=$who.key KES_CLIENT_CERT=$who.crt exec \"$@\"\n";

/// Gives what differs from run to run a name.
const STEADY: &str = r#"#!/bin/sh
sed -E 's/[0-9.]+ *[a-zµ]*s$/<duration>/; s/[0-9.]+[KMG]B$/<size>/; s/(CPUs +)[0-9]+ .*/\1<cpus>/
s/,"(uptime|keystore_latency)":[0-9]+//g
s/"(time|num_cpu|num_cpu_used|(mem|num)_heap_used|(mem|num)_stack_used)":[0-9]+/"\1":<number>/g'
"#;

/// Programs that sessions call, and the peers that they are.
pub(crate) const PROGRAMS: [(&str, &str); 5] = [
    ("old-kes", "kes"),
    ("new-kes", "kes-0.23"),
    ("sdk-kes", "sdk-kes"),
    ("sdk-kes-go", "sdk-kes-go"),
    ("sdk-kms-go", "sdk-kms-go"),
];

/// A directory, a server of ours in it, and the programs.
pub(crate) struct Shell {
    stage: Stage,
    server: Running,
}

impl Shell {
    pub(crate) fn new(server: Server) -> Self {
        let stage = Stage::new();
        let bin = stage.path().join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_kes"), bin.join("kes")).unwrap();
        for (name, program) in PROGRAMS {
            symlink(peer(program), bin.join(name)).unwrap();
        }
        for (name, script) in [("as", AS), ("steady", STEADY)] {
            fs::write(bin.join(name), script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for who in ["system", "admin", "other", "app", "denied", "unknown"] {
            let identity = stage.identities.iter().find(|(_, name)| *name == who).unwrap().0;
            fs::write(stage.path().join(format!("{who}.id")), identity).unwrap();
        }
        let server = stage.start(server);
        Self { stage, server }
    }

    fn run(&self, line: &str) -> String {
        let dir = self.stage.path();
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(dir)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", dir.join("bin").display()))
            .env("HOME", dir)
            .env("KES_SERVER", format!("https://{}", self.server.address))
            .env("KES_CLIENT_KEY", "admin.key")
            .env("KES_CLIENT_CERT", "admin.crt")
            // ours and the SDK clients take the first, Go's programs the second
            .env("KES_CA", "server.crt")
            .env("SSL_CERT_FILE", "server.crt")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut text = format!("$ {line}\n");
        let stdout = self.normalise(&String::from_utf8_lossy(&output.stdout));
        text += &stdout;
        if !stdout.is_empty() && !stdout.ends_with('\n') {
            text += "%\n";
        }
        for line in self.normalise(&String::from_utf8_lossy(&output.stderr)).lines() {
            text += format!("! {line}").trim_end();
            text.push('\n');
        }
        match output.status.code() {
            Some(0) => text,
            Some(code) => text + &format!("? {code}\n"),
            None => text + "? killed\n",
        }
    }

    fn normalise(&self, text: &str) -> String {
        let mut text = text.replace(&self.server.address.to_string(), "<server>");
        for (identity, name) in &self.stage.identities {
            text = text.replace(identity, &format!("<{name}>"));
        }
        text = text.replace(&format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"<version>\"");
        text = text.replace(&format!("Version  {}\n", env!("CARGO_PKG_VERSION")), "Version  <version>\n");
        text = dates(&text);
        text = runs(
            &text,
            |c| c.is_ascii_alphanumeric() || "+/=_-".contains(c),
            |run| match run.len() {
                32 if run.bytes().all(|b| b.is_ascii_hexdigit()) => Some("<id>"),
                44 if run.ends_with('=') => Some("<32 bytes>"),
                60.. => Some("<bytes>"),
                _ => None,
            },
        );
        let is_time = |run: &str| {
            run.len() >= 19
                && run.starts_with("20")
                && run.as_bytes()[4] == b'-'
                && run.as_bytes()[13] == b':'
        };
        runs(&text, |c| c.is_ascii_digit() || "-:TZ.".contains(c), |run| is_time(run).then_some("<time>"))
    }

    /// The session with what its commands print.
    fn session(&self, expected: &str) -> String {
        let mut actual = String::new();
        let mut lines = expected.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(command) = line.strip_prefix("$ ") {
                actual += &self.run(command);
                while lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with('#')).is_some() {}
            } else {
                actual += line;
            }
            actual.push('\n');
        }
        format!("{}\n", actual.trim_end())
    }
}

/// `text` with each longest run of characters that `belong` replaced as `name` says.
fn runs(text: &str, belong: impl Fn(char) -> bool, name: impl Fn(&str) -> Option<&'static str>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let other = rest.find(&belong).unwrap_or(rest.len());
        out += &rest[..other];
        rest = &rest[other..];
        let end = rest.find(|c| !belong(c)).unwrap_or(rest.len());
        out += name(&rest[..end]).unwrap_or(&rest[..end]);
        rest = &rest[end..];
    }
    out
}

/// `text` with each `2026-01-02 03:04:05` replaced.
fn dates(text: &str) -> String {
    let is_date = |candidate: &str| {
        let digit_or_same =
            |(c, want): (char, char)| if want == '0' { c.is_ascii_digit() } else { c == want };
        candidate.chars().zip("0000-00-00 00:00:00".chars()).all(digit_or_same)
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let known = rest.get(..19).filter(|candidate| is_date(candidate));
        out += if known.is_some() { "<date>" } else { &rest[..first.len_utf8()] };
        rest = &rest[known.map_or(first.len_utf8(), str::len)..];
    }
    out
}

/// All session files.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/sessions");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Runs the session in `file`; what differs from what it says, if anything does.
pub(crate) fn check(file: &Path) -> Option<String> {
    let expected = fs::read_to_string(file).unwrap();
    let is_later = expected.starts_with("# compatibility: v2025\n");
    let server = if is_later { Server::OursLater } else { Server::Ours };
    let actual = Shell::new(server).session(&expected);
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
