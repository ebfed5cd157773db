//! The addresses of this machine: where a server that listens everywhere can be reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// Linux's own table of IPv4 routes, with the local addresses in it.
const ROUTES: &str = "/proc/net/fib_trie";

/// IPv4 addresses of all interfaces, the loopback first.
pub(super) fn local() -> Vec<IpAddr> {
    let found = std::fs::read_to_string(ROUTES).map(|text| parse(&text)).unwrap_or_default();
    let mut addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    addresses.extend(found.into_iter().chain(outward()).filter(|address| !address.is_loopback()));
    // the table and the kernel's choice overlap
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses
}

/// What to show for a server that listens on `address`.
pub(super) fn endpoints(address: SocketAddr) -> Vec<String> {
    let hosts = if address.ip().is_unspecified() { local() } else { vec![address.ip()] };
    hosts.iter().map(|host| format!("https://{}", SocketAddr::new(*host, address.port()))).collect()
}

/// The address that this machine has on the way out.
fn outward() -> Option<IpAddr> {
    // no packet is sent: the kernel only says from where it would send one (RFC 5737 address)
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

/// The entries that are one address of this machine each: a line with the address, then `/32 host LOCAL`.
fn parse(table: &str) -> Vec<IpAddr> {
    let lines = || table.lines().map(str::trim);
    lines()
        .zip(lines().skip(1))
        .filter(|(_, kind)| *kind == "/32 host LOCAL")
        .filter_map(|(entry, _)| entry.trim_start_matches("|-- ").parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_addresses_are_taken_from_the_table() {
        let table = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
           |-- 10.0.0.2
              /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
";
        assert_eq!(parse(table), ["127.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert!(parse("").is_empty());
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_on_the_loopback_first() {
        assert_eq!(endpoints(([0, 0, 0, 0], 7373).into())[0], "https://127.0.0.1:7373");
        assert_eq!(endpoints("[::1]:1".parse().unwrap()), ["https://[::1]:1"]);
        let all = local();
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), different.len());
    }
}
