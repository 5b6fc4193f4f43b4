//! The egress guard: which addresses a workflow may call.
//!
//! Everything that is not a global unicast address is refused unless a CIDR of `egress.allow` covers it. The address
//! that is asked about is the one that is connected to, never a name, so neither DNS rebinding nor an odd spelling of
//! an IP address gets past. The guard refuses nothing else: ports and host names are not its business.
//!
//! Metadata services hand out credentials to whoever asks, so a wide CIDR such as `0.0.0.0/0` does not open them: a
//! metadata address must be allowed by itself (`/32`, `/128`), and a link-local address by a CIDR inside link-local.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A cloud's metadata or host service.
    Metadata,
    /// This link only (RFC 3927, RFC 4291).
    LinkLocal,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// `0.0.0.0/8` or `::`, which reach this machine.
    Unspecified,
    /// A group of machines.
    Multicast,
    /// Documentation, benchmarking, tunnels, and what is not assigned to the public internet.
    Reserved,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "a cloud metadata address",
            Self::LinkLocal => "a link-local address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast or broadcast address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// The guard with the ranges that `egress.allow` opens; none by default.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    allow: Vec<IpNet>,
}

impl Egress {
    /// A guard that lets through the public internet and the addresses of `allow`.
    pub fn new(allow: impl IntoIterator<Item = IpNet>) -> Self {
        Self { allow: allow.into_iter().collect() }
    }

    /// Passes `address`, or says why not. An IPv4-mapped IPv6 address counts as the IPv4 address it reaches.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let address = address.to_canonical();
        let Some(refusal) = classify(address) else { return Ok(()) };
        let opens = |net: &&IpNet| match refusal {
            Refusal::Metadata => net.prefix_len() == net.max_prefix_len(),
            Refusal::LinkLocal => LINK_LOCAL.iter().any(|link| link.contains(*net)),
            _ => true,
        };
        if self.allow.iter().filter(opens).any(|net| net.contains(&address)) { Ok(()) } else { Err(refusal) }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(a: u16, b: u16, c: u16, h: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, h), prefix))
}

const LINK_LOCAL: [IpNet; 2] = [v4(169, 254, 0, 0, 16), v6(0xfe80, 0, 0, 0, 10)];

/// The first row that holds an address decides. After the IANA special-purpose registries (RFC 6890) and the
/// metadata addresses that the clouds document.
const REFUSED: &[(IpNet, Refusal)] = &[
    // Azure, AWS, GCP and most others; AWS container credentials; the Azure host; Alibaba Cloud; Oracle Cloud.
    (v4(169, 254, 169, 254, 32), Refusal::Metadata),
    (v4(169, 254, 170, 2, 32), Refusal::Metadata),
    (v4(168, 63, 129, 16, 32), Refusal::Metadata),
    (v4(100, 100, 100, 200, 32), Refusal::Metadata),
    (v4(192, 0, 0, 192, 32), Refusal::Metadata),
    // AWS and GCP over IPv6.
    (v6(0xfd00, 0xec2, 0, 0x254, 128), Refusal::Metadata),
    (v6(0xfd20, 0xce, 0, 0x254, 128), Refusal::Metadata),
    (LINK_LOCAL[0], Refusal::LinkLocal),
    (LINK_LOCAL[1], Refusal::LinkLocal),
    (v4(127, 0, 0, 0, 8), Refusal::Loopback),
    (v6(0, 0, 0, 1, 128), Refusal::Loopback),
    (v4(10, 0, 0, 0, 8), Refusal::Private),
    (v4(172, 16, 0, 0, 12), Refusal::Private),
    (v4(192, 168, 0, 0, 16), Refusal::Private),
    (v4(100, 64, 0, 0, 10), Refusal::Private),
    (v6(0xfc00, 0, 0, 0, 7), Refusal::Private),
    (v6(0xfec0, 0, 0, 0, 10), Refusal::Private),
    (v4(0, 0, 0, 0, 8), Refusal::Unspecified),
    (v6(0, 0, 0, 0, 128), Refusal::Unspecified),
    (v4(224, 0, 0, 0, 4), Refusal::Multicast),
    (v4(255, 255, 255, 255, 32), Refusal::Multicast),
    (v6(0xff00, 0, 0, 0, 8), Refusal::Multicast),
    // IETF protocols, documentation, the old 6to4 relays, benchmarking, the old class E.
    (v4(192, 0, 0, 0, 24), Refusal::Reserved),
    (v4(192, 0, 2, 0, 24), Refusal::Reserved),
    (v4(192, 88, 99, 0, 24), Refusal::Reserved),
    (v4(198, 18, 0, 0, 15), Refusal::Reserved),
    (v4(198, 51, 100, 0, 24), Refusal::Reserved),
    (v4(203, 0, 113, 0, 24), Refusal::Reserved),
    (v4(240, 0, 0, 0, 4), Refusal::Reserved),
    // Teredo hides an IPv4 address; benchmarking, ORCHID, documentation.
    (v6(0x2001, 0, 0, 0, 32), Refusal::Reserved),
    (v6(0x2001, 2, 0, 0, 48), Refusal::Reserved),
    (v6(0x2001, 0x10, 0, 0, 28), Refusal::Reserved),
    (v6(0x2001, 0x20, 0, 0, 28), Refusal::Reserved),
    (v6(0x2001, 0xdb8, 0, 0, 32), Refusal::Reserved),
    (v6(0x3fff, 0, 0, 0, 20), Refusal::Reserved),
];

/// The only part of IPv6 that is handed out for the public internet.
const GLOBAL_UNICAST: IpNet = v6(0x2000, 0, 0, 0, 3);

fn classify(address: IpAddr) -> Option<Refusal> {
    let row = REFUSED.iter().find(|(net, _)| net.contains(&address)).map(|(_, refusal)| *refusal);
    match address {
        _ if row.is_some() => row,
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => classify(IpAddr::V4(inner)).or((address.segments()[0] == 0).then_some(Refusal::Reserved)),
            None if GLOBAL_UNICAST.contains(&IpAddr::V6(address)) => None,
            None => Some(Refusal::Reserved),
        },
    }
}

/// The IPv4 address that a packet to this IPv6 address ends at, past a translator or tunnel: NAT64 (RFC 6052),
/// 6to4 (RFC 3056), IPv4-compatible (RFC 4291, deprecated: refused even when the inner address is public).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, g, h] | [0, 0, 0, 0, 0, 0, g, h] => Some(low(g, h)),
        [0x2002, b, c, ..] => Some(low(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[track_caller]
    fn check(allow: &[&str], address: &str, expected: Result<(), Refusal>) {
        let egress = Egress::new(allow.iter().map(|net| net.parse().unwrap()));
        assert_eq!(egress.check(address.parse().unwrap()), expected, "{address} with {allow:?}");
    }

    #[test]
    fn only_the_public_internet_is_open() {
        for (address, refusal) in [
            ("169.254.169.254", Refusal::Metadata),
            ("168.63.129.16", Refusal::Metadata),
            ("fd00:ec2::254", Refusal::Metadata),
            ("100.100.100.200", Refusal::Metadata),
            ("169.254.0.1", Refusal::LinkLocal),
            ("fe80::1", Refusal::LinkLocal),
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.255.254", Refusal::Loopback),
            ("::1", Refusal::Loopback),
            ("10.0.0.1", Refusal::Private),
            ("172.16.0.1", Refusal::Private),
            ("172.31.255.255", Refusal::Private),
            ("192.168.1.1", Refusal::Private),
            ("100.64.0.1", Refusal::Private),
            ("fc00::1", Refusal::Private),
            ("fd12:3456::1", Refusal::Private),
            ("0.0.0.0", Refusal::Unspecified),
            ("::", Refusal::Unspecified),
            ("224.0.0.1", Refusal::Multicast),
            ("ff02::1", Refusal::Multicast),
            ("255.255.255.255", Refusal::Multicast),
            ("192.0.2.7", Refusal::Reserved),
            ("198.18.0.1", Refusal::Reserved),
            ("203.0.113.9", Refusal::Reserved),
            ("240.0.0.1", Refusal::Reserved),
            ("2001:db8::1", Refusal::Reserved),
            ("100::1", Refusal::Reserved),
            ("4000::1", Refusal::Reserved),
            ("64:ff9b:1::a00:1", Refusal::Reserved),
            // IPv4 in other clothes.
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("::ffff:169.254.169.254", Refusal::Metadata),
            ("::127.0.0.1", Refusal::Loopback),
            ("::8.8.8.8", Refusal::Reserved),
            ("64:ff9b::a00:1", Refusal::Private),
            ("2002:7f00:1::", Refusal::Loopback),
            ("2002:a9fe:a9fe::1", Refusal::Metadata),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Refusal::Reserved),
        ] {
            check(&[], address, Err(refusal));
        }
    }

    #[test]
    fn the_public_internet_is_open() {
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "172.15.0.1",
            "100.128.0.1",
            "168.63.129.17",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            check(&[], address, Ok(()));
        }
    }

    #[test]
    fn a_cidr_opens_its_range() {
        check(&["127.0.0.0/8"], "127.0.0.1", Ok(()));
        check(&["127.0.0.0/8"], "::ffff:127.0.0.1", Ok(()));
        check(&["10.0.0.0/8"], "127.0.0.1", Err(Refusal::Loopback));
        check(&["10.1.0.0/16"], "10.2.0.1", Err(Refusal::Private));
        check(&["fd00::/8"], "fd12::1", Ok(()));
        // The IPv4 range does not open the ways around it.
        check(&["10.0.0.0/8"], "64:ff9b::a00:1", Err(Refusal::Private));
    }

    #[test]
    fn metadata_and_link_local_need_their_own_entry() {
        for wide in ["0.0.0.0/0", "168.0.0.0/5", "169.0.0.0/8"] {
            check(&[wide], "169.254.169.254", Err(Refusal::Metadata));
            check(&[wide], "169.254.1.1", Err(Refusal::LinkLocal));
            check(&[wide], "168.63.129.16", Err(Refusal::Metadata));
        }
        check(&["::/0"], "fd00:ec2::254", Err(Refusal::Metadata));
        check(&["::/0"], "fe80::1", Err(Refusal::LinkLocal));
        check(&["169.254.0.0/16"], "169.254.1.1", Ok(()));
        check(&["169.254.0.0/16"], "169.254.169.254", Err(Refusal::Metadata));
        check(&["169.254.169.254/32"], "169.254.169.254", Ok(()));
        check(&["168.63.129.16/32"], "168.63.129.16", Ok(()));
    }
}
