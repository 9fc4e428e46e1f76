//! Proxies that are believed, and PROXY headers of both sides.

use holdline_core::policy::ProxyProtocol;

use super::{error_of, model_of};

fn text(trusted: &str, listener: &str, backends: &str) -> String {
    format!(
        r#"listeners:
  - address: "127.0.0.1:8080"
    {listener}
trusted: {trusted}
fleets:
  chat: {{ backends: {{ static: [ {{ address: "127.0.0.1:9001" }} ]{backends} }}, capacity: 10 }}
"#
    )
}

#[test]
fn what_is_written_is_meant() {
    let networks = r#"[ "10.0.0.0/8", 192.0.2.7, "2001:db8::/32", "::1" ]"#;
    let config = model_of(&text(networks, "proxy_protocol: true", ", proxy_protocol: v2"));
    for (address, is_trusted) in [
        ("10.9.8.7", true),
        ("192.0.2.7", true),
        ("2001:db8::7", true),
        ("::1", true),
        ("192.0.2.6", false),
        ("127.0.0.1", false),
    ] {
        assert_eq!(config.trusted.contains(address.parse().unwrap()), is_trusted, "{address}");
    }
    assert!(config.listeners[0].proxy_protocol);
    assert_eq!(config.fleets[0].policy.proxy_protocol, ProxyProtocol::V2);
    assert!(config.warnings.is_empty());
}

#[test]
fn another_trust_is_another_configuration() {
    let (one, other) = (model_of(&text(r#"["10.0.0.0/8"]"#, "", "")), model_of(&text(r#"["10.0.0.0/9"]"#, "", "")));
    assert_eq!(other.is_same(&one), Ok(false));
    let split = model_of(&text(r#"["10.128.0.0/9", "10.0.0.0/9", "10.1.0.0/16"]"#, "", ""));
    assert_eq!(split.is_same(&one), Ok(true), "the same networks in other words");
}

#[test]
fn headers_from_nobody_cannot_be_meant() {
    assert_eq!(
        error_of(&text("[]", "proxy_protocol: true", "")),
        "holdline.yaml:3: listener 127.0.0.1:8080 expects PROXY headers, but trusted is empty: every connection would be rejected; \
         add the networks of the proxies in front of it: trusted: [ \"10.0.0.0/8\" ]; or set proxy_protocol: false"
    );
}

#[test]
fn what_is_no_network_is_told_with_what_to_write() {
    for (network, expected) in [
        (
            "proxy.internal",
            "trusted: `proxy.internal` is not a network; write one such as 10.0.0.0/8 or 2001:db8::/32, or the address of one host; names are not resolved",
        ),
        (
            "10.0.0.0/33",
            "trusted: `10.0.0.0/33` is not a network; write one such as 10.0.0.0/8 or 2001:db8::/32, or the address of one host; names are not resolved",
        ),
        (
            "10.0.0.7/8",
            "trusted: `10.0.0.7/8` has bits set beyond its prefix; write 10.0.0.0/8 for the network, or 10.0.0.7 for that host only",
        ),
        ("::ffff:10.0.0.0/104", "trusted: `::ffff:10.0.0.0/104` is IPv4 mapped into IPv6; write 10.0.0.0/8"),
    ] {
        assert_eq!(error_of(&text(&format!("[ \"{network}\" ]"), "", "")), format!("holdline.yaml:4: {expected}"));
    }
}

#[test]
fn to_trust_everybody_is_odd() {
    let expected = "holdline.yaml:4: trusted: ::/0 matches every address; list only the networks of your proxies: a trusted peer sets the \
                    client address that is logged and limited";
    assert_eq!(model_of(&text("[ \"::/0\" ]", "", "")).warnings, [expected]);
}

#[test]
fn a_version_that_is_not_spoken() {
    let error = error_of(&text("[]", "", ", proxy_protocol: v1"));
    assert!(error.contains("unknown value `v1`, expected one of none, v2"), "{error}");
}
