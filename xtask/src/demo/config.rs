//! The demo's configuration file.

use fairlead_tests::lab::Lab;
use fairlead_tests::lab::plan::Row;
use std::fmt::Write;
use std::net::IpAddr;

/// The weights of the first three backends; the fourth is spare.
pub(super) const WEIGHTS: [u32; 3] = [1, 2, 3];
/// The port of nginx.
pub(super) const WEB: u16 = 80;
/// The port of the line servers.
pub(super) const LINES: u16 = 7000;
/// Services of the first VIP that real servers stand behind, IPv4 and IPv6.
pub(super) const SERVED: [&str; 4] = ["web", "web6", "lines", "lines6"];
/// A service whose backends only exist as addresses.
pub(super) const HUNDRED: &str = "hundred";
/// How many backends [`HUNDRED`] has at first.
pub(super) const HUNDRED_BACKENDS: u8 = 100;

/// Whether a service is an IPv6 one.
pub(super) fn is_v6(service: &str) -> bool {
    service.ends_with('6')
}

/// The whole file.
pub(super) fn text(lab: &Lab) -> String {
    let mut text = String::from("# The demo's balancer.\n[[interface]]\nname = \"eth0\"\n");
    for service in SERVED {
        let web = service.starts_with("web");
        let port = if web { WEB } else { LINES };
        head(&mut text, service, vip(is_v6(service)), port);
        let check = if web { "kind = \"http\"\npath = \"/\"" } else { "kind = \"tcp\"" };
        // A backend that comes back is to be seen soon, so that the next scene can begin.
        let _ = write!(
            text,
            "[service.check]\n{check}\ninterval = \"500ms\"\nfast = \"200ms\"\ndown = \"500ms\"\n"
        );
        for (host, weight) in lab.backends.iter().zip(WEIGHTS) {
            backend(&mut text, host.address_like(vip(is_v6(service))), weight);
        }
    }
    head(&mut text, HUNDRED, vip(false), 8000);
    for index in 0..HUNDRED_BACKENDS {
        backend(&mut text, Row::Farm.v4(index).into(), 1);
    }
    text
}

/// The demo's VIP of a family.
pub(super) fn vip(v6: bool) -> IpAddr {
    if v6 { Row::Vip.v6(0).into() } else { Row::Vip.v4(0).into() }
}

fn head(text: &mut String, service: &str, vip: IpAddr, port: u16) {
    let head = format!(
        "name = \"{service}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"tcp\"\nmode = \"ipip\"\n"
    );
    text.push_str("\n[[service]]\n");
    text.push_str(&head);
}

fn backend(text: &mut String, address: IpAddr, weight: u32) {
    // Writing to a string does not fail.
    let _ = write!(text, "[[service.backend]]\naddress = \"{address}\"\nweight = {weight}\n");
}
