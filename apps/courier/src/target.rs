//! Where messages may go. Without this policy a courier is an open door into the network it stands in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Which targets are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Addresses of the public internet only.
    Public,
    /// Any address, for tests and closed networks.
    Any,
}

/// Why a target is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("is not a URL ({0}); write it as in \"https://example.com/hook\"")]
    NotUrl(String),
    #[error("has the scheme \"{0}\"; only http and https can be delivered to")]
    Scheme(String),
    #[error("holds a user name or password; send them in \"headers\" as \"authorization\"")]
    Credentials,
    #[error(
        "points at {host}, {kind}; only public addresses are allowed unless courier runs with --allow-private-targets"
    )]
    Address { host: String, kind: &'static str },
}

impl Targets {
    /// Judges what the text alone tells: scheme, form, and literal addresses.
    ///
    /// The parser is that of browsers: `http://0x7f.1/` and `http://2130706433/` are seen to be 127.0.0.1.
    pub fn check(self, text: &str) -> Result<Url, Refusal> {
        let mut url = Url::parse(text).map_err(|error| Refusal::NotUrl(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme(url.scheme().into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        url.set_fragment(None); // never sent
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_address(&ip.to_string(), ip.into())?,
            Some(Host::Ipv6(ip)) => self.check_address(&ip.to_string(), ip.into())?,
            Some(Host::Domain(name)) => self.check_name(name)?,
            None => return Err(Refusal::NotUrl("no host".into())),
        }
        Ok(url)
    }

    /// Judges an address that a name resolved to. Called for every connection, so that a name that changes its mind gains nothing.
    pub fn check_address(self, host: &str, ip: IpAddr) -> Result<(), Refusal> {
        match (self, inner_kind(ip)) {
            (Self::Public, Some(kind)) => Err(Refusal::Address { host: host.into(), kind }),
            _ => Ok(()),
        }
    }

    fn check_name(self, name: &str) -> Result<(), Refusal> {
        let name = name.trim_end_matches('.');
        let local = name == "localhost" || name.ends_with(".localhost");
        match self {
            Self::Public if local => Err(Refusal::Address { host: name.into(), kind: "a loopback name" }),
            _ => Ok(()),
        }
    }
}

/// What kind of address this is, when it is not one of the public internet.
fn inner_kind(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => inner_kind_v4(ip),
        IpAddr::V6(ip) => inner_kind_v6(ip),
    }
}

fn inner_kind_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => "an unspecified address",
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (169, 254, _) => "a link-local address",
        (100, 64..=127, _) => "a carrier-grade NAT address",
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) | (198, 18 | 19, _) => {
            "an address for special use"
        }
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn inner_kind_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if ip.is_unspecified() {
        return Some("an unspecified address");
    }
    if ip.is_loopback() {
        return Some("a loopback address");
    }
    match ip.segments() {
        // An IPv4 address in another dress is judged as what it is: mapped, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            inner_kind_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        [0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("an address for special use"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_refused_in_every_dress() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "017700000001",
            "0.0.0.0",
            "0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[2001:db8::1]",
            "[fc00::1]",
            "[fd12::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[100::1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1.",
            "①②⑦.0.0.1",
        ] {
            let refusal = Targets::Public.check(&format!("http://{host}/hook"));
            assert!(matches!(refusal, Err(Refusal::Address { .. })), "{host}: {refusal:?}");
            assert!(Targets::Any.check(&format!("http://{host}/hook")).is_ok(), "{host}");
        }
    }

    #[test]
    fn public_addresses_and_names_are_allowed() {
        for host in [
            "example.com",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "223.255.255.255",
            "[2606:4700::1111]",
            "[::ffff:8.8.8.8]",
            "[64:ff9b::8.8.8.8]",
            "[2002:808:808::1]",
            "localhost.example.com",
        ] {
            assert!(Targets::Public.check(&format!("https://{host}/")).is_ok(), "{host}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        let check = |text| Targets::Any.check(text).expect_err(text);
        assert!(matches!(check("example.com/hook"), Refusal::NotUrl(_)));
        assert!(matches!(check(""), Refusal::NotUrl(_)));
        assert!(matches!(check("http://"), Refusal::NotUrl(_)));
        assert!(matches!(check("file:///etc/passwd"), Refusal::Scheme(_)));
        assert!(matches!(check("https://me:secret@example.com/"), Refusal::Credentials));
    }

    #[test]
    fn a_fragment_is_not_kept() {
        assert_eq!(Targets::Public.check("https://example.com/a?b=c#d").unwrap().as_str(), "https://example.com/a?b=c");
    }
}
