//! What a person sees when a server is ready, in the layout of v0.22.3 (contract §4.4); or a program, as JSON.

use serde::Serialize;

use super::terminal::{Color, Format, json};

/// What is told of a running server.
pub(super) struct Banner<'a> {
    pub(super) format: &'a Format,
    pub(super) endpoints: &'a [String],
    /// Whether secret memory is locked.
    pub(super) locked: bool,
    /// Whether chains of client certificates are verified.
    pub(super) verified: bool,
    /// Key store and admin of a server that is told everything by its configuration.
    pub(super) stateless: Option<(&'a str, &'a str)>,
    /// What only a development server has to tell.
    pub(super) development: Option<Development<'a>>,
}

/// The access to a development server.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Development<'a> {
    /// API key of the admin of the default enclave.
    pub(super) api_key: &'a str,
    /// Its identity.
    pub(super) identity: &'a str,
    /// API key of the system admin.
    pub(super) system_key: &'a str,
    /// File with the server's certificate.
    pub(super) certificate: &'a str,
}

#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    endpoints: &'a [String],
    mem_locked: bool,
    #[serde(flatten)]
    development: Option<Development<'a>>,
}

impl Banner<'_> {
    pub(super) fn show(&self) -> String {
        let Self { format, endpoints, locked, verified: _, stateless: _, development } = *self;
        if !format.json {
            return self.text(format.color);
        }
        json(&Json { version: env!("CARGO_PKG_VERSION"), endpoints, mem_locked: locked, development }) + "\n"
    }

    fn text(&self, color: Color) -> String {
        let Self { format: _, endpoints, locked, verified, stateless, development } = self;
        let line = |label: &str, value: &str, more: &str| {
            // the padding comes after the colour, so that scripts find the value as a word of its own
            let padding = " ".repeat(11usize.saturating_sub(label.len()));
            format!("{}{padding}{}\n", color.bold(label), format!("{value:<12} {more}").trim_end())
        };
        let platform = format!("{}/{}", std::env::consts::OS, go_arch());
        let mut text = line("License", "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0");
        text += &line("Version", env!("CARGO_PKG_VERSION"), &platform);
        text.push('\n');
        for (index, endpoint) in endpoints.iter().enumerate() {
            text += &line(if index == 0 { "Endpoints" } else { "" }, endpoint, "");
        }
        text.push('\n');
        if let Some((keystore, admin)) = stateless {
            text += &line("KMS", &format!("Filesystem: {keystore}"), "");
            text += &line("Admin", admin, "");
            text.push('\n');
        }
        if let Some(Development { api_key, identity, system_key, certificate }) = development {
            // MinIO's scripts take the third word of the one line that says `API Key`
            text += &line("API Key", api_key, "");
            text += &line("Admin", identity, "");
            text += &line("Sys Admin", system_key, "(for 'kes enclave' only)");
            text += &line("Cert", certificate, "");
            text.push('\n');
        }
        text += &if *verified {
            line("mTLS", "verify", "Only clients with trusted certificates can connect")
        } else {
            line("mTLS", "skip verify", "Client certificates are not verified")
        };
        text += &if *locked {
            line("Mem Lock", "on", "RAM pages will not be swapped to disk")
        } else {
            line("Mem Lock", "off", "Failed to lock RAM pages. Consider granting CAP_IPC_LOCK")
        };
        if let Some(Development { api_key, certificate, .. }) = development {
            let server = endpoints.first().map_or("", String::as_str);
            text.push('\n');
            text += &line("Dev mode", "For tests only: every key is gone when this server stops.", "");
            text += &format!(
                "\nTry it in another terminal:\n\n  \
                 export KES_SERVER={server}\n  \
                 export KES_CA={certificate}\n  \
                 export KES_API_KEY={api_key}\n  \
                 kes key create my-key\n"
            );
        }
        text
    }
}

/// Go's name of this machine's architecture, which KES prints.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Format = Format { json: false, color: Color::Never };

    fn stable(banner: &Banner<'_>) -> String {
        banner.text(Color::Never).replace(env!("CARGO_PKG_VERSION"), "0.0.0").replace(go_arch(), "amd64")
    }

    #[test]
    fn the_banner_has_the_layout_of_kes() {
        let endpoints = ["https://127.0.0.1:7373".to_owned(), "https://10.0.0.2:7373".to_owned()];
        let banner = Banner {
            format: &PLAIN,
            endpoints: &endpoints,
            locked: true,
            verified: false,
            stateless: None,
            development: None,
        };
        insta::assert_snapshot!(stable(&banner), @r"
        License    Apache-2.0   https://www.apache.org/licenses/LICENSE-2.0
        Version    0.0.0        linux/amd64

        Endpoints  https://127.0.0.1:7373
                   https://10.0.0.2:7373

        mTLS       skip verify  Client certificates are not verified
        Mem Lock   on           RAM pages will not be swapped to disk
        ");
    }

    #[test]
    fn scripts_find_the_api_key_as_the_third_word_of_the_one_line_that_names_it() {
        let endpoints = ["https://127.0.0.1:7373".to_owned()];
        let development =
            Development { api_key: "kes:v1:A", identity: "aa", system_key: "kes:v1:S", certificate: "/t/c" };
        for color in [Color::Never, Color::Always] {
            let banner = Banner {
                format: &Format { json: false, color },
                endpoints: &endpoints,
                locked: false,
                verified: true,
                stateless: None,
                development: Some(development),
            };
            let text = banner.show();
            let lines: Vec<_> = text.lines().filter(|line| line.contains("API Key")).collect();
            assert_eq!(lines.len(), 1, "{text}");
            assert_eq!(lines[0].split_whitespace().nth(2), Some("kes:v1:A"), "{text}");
        }
    }
}
