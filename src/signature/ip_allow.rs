//! Which address a request came from, and whether that address may call. `X-Forwarded-For` counts only as far as
//! trusted proxies wrote it: read from the right, it ends at the first hop that is not one of them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::inbound::Reject;

/// The header that proxies append to, lower case.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client behind trusted proxies: the rightmost hop that is not one. `peer` is the far end of the connection,
/// `forwarded` the values of every `X-Forwarded-For` header in order.
///
/// A peer that is not trusted is the client, whatever it wrote into the header. A hop that is no address is refused,
/// because nobody can say who stands behind it. When every hop is trusted the leftmost is the client.
pub fn client_ip<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> Result<IpAddr, Reject> {
    let mut client = peer.to_canonical();
    let mut hops = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    while allowed(client, trusted) {
        let Some(hop) = hops.next() else { break };
        client = address(hop).ok_or_else(|| Reject::malformed(FORWARDED_FOR, "a list of addresses"))?;
    }
    Ok(client)
}

/// Whether the address lies in one of the networks. An IPv4 address that came as `::ffff:…` counts as IPv4.
pub fn allowed(ip: IpAddr, nets: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| canonical(*net).contains(&ip))
}

/// `::ffff:203.0.113.0/120` means `203.0.113.0/24`.
fn canonical(net: IpNet) -> IpNet {
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(v4), Some(bits)) if matches!(net, IpNet::V6(_)) => IpNet::new(v4.into(), bits).unwrap_or(net),
        _ => net,
    }
}

/// A hop: an address, with or without a port, as proxies write it.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }

    fn check(peer: &str, forwarded: &[&str], client: Option<&str>) {
        let trusted = nets(&["10.0.0.0/8", "fd00::/8"]);
        let peer = peer.parse().unwrap_or(IpAddr::from([0; 4]));
        let found = client_ip(peer, forwarded.iter().map(|value| value.as_bytes()), &trusted).ok();
        assert_eq!(found.map(|ip| ip.to_string()).as_deref(), client, "{peer} {forwarded:?}");
    }

    #[test]
    fn the_client_is_the_rightmost_stranger() {
        check("198.51.100.1", &["203.0.113.9"], Some("198.51.100.1"));
        check("10.1.2.3", &[], Some("10.1.2.3"));
        check("10.1.2.3", &["203.0.113.9"], Some("203.0.113.9"));
        check("::ffff:10.1.2.3", &["::ffff:203.0.113.9"], Some("203.0.113.9"));
        check("10.1.2.3", &["203.0.113.9, 198.51.100.7"], Some("198.51.100.7"));
        check("10.1.2.3", &["203.0.113.9", "198.51.100.7 , 10.9.9.9"], Some("198.51.100.7"));
        check("10.1.2.3", &["203.0.113.9, 198.51.100.7", "10.9.9.9"], Some("198.51.100.7"));
        check("10.1.2.3", &["10.7.7.7, 10.9.9.9"], Some("10.7.7.7"));
        check("fd00::1", &["2001:db8:1::5"], Some("2001:db8:1::5"));
        check("10.1.2.3", &["203.0.113.9:4711"], Some("203.0.113.9"));
        check("10.1.2.3", &["[2001:db8::1]:443"], Some("2001:db8::1"));
        check("10.1.2.3", &["[2001:db8::1]"], Some("2001:db8::1"));
    }

    #[test]
    fn a_hop_that_is_no_address_is_refused() {
        for bad in
            ["unknown", "", "203.0.113.9,", "203.0.113.9, x", "203.0.113.999", "010.0.0.1", "_hidden", "fe80::1%eth0"]
        {
            check("10.1.2.3", &[bad], None);
        }
        // What stands left of the client was written by the client.
        check("10.1.2.3", &["unknown, 203.0.113.9"], Some("203.0.113.9"));
    }

    fn check_allowed(ip: &str, list: &[&str], expected: bool) {
        assert_eq!(ip.parse().map(|ip| allowed(ip, &nets(list))), Ok(expected), "{ip} {list:?}");
    }

    #[test]
    fn networks() {
        let list = ["203.0.113.0/24", "2001:db8:1::/48"];
        check_allowed("203.0.113.0", &list, true);
        check_allowed("203.0.113.255", &list, true);
        check_allowed("203.0.114.0", &list, false);
        check_allowed("::ffff:203.0.113.9", &list, true);
        check_allowed("2001:db8:1:ffff::1", &list, true);
        check_allowed("2001:db8:2::1", &list, false);
        check_allowed("203.0.113.9", &["::ffff:203.0.113.0/120"], true);
        check_allowed("203.0.113.9", &["::/0"], false);
        check_allowed("2001:db8::1", &["0.0.0.0/0"], false);
        check_allowed("203.0.113.9", &[], false);
    }
}
