//! The servers of the lab, started by it: `lab-peer lines NAME PORT`, `lab-peer herd NAME PORT`,
//! `lab-peer udp NAME PORT ADDRESS…`.

use anyhow::{Context, Result, bail};
use fairlead_tests::lab::{ha, line_server, udp};
use std::net::IpAddr;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ready = || println!("ready");
    match args.as_slice() {
        ["lines", name, port] => line_server::serve(name, port.parse().context("PORT")?, ready),
        ["herd", name, port] => ha::herd::serve(name, port.parse().context("PORT")?, ready),
        ["udp", name, port, addresses @ ..] => {
            let addresses =
                addresses.iter().map(|address| address.parse()).collect::<Result<Vec<IpAddr>, _>>();
            udp::serve(name, port.parse().context("PORT")?, &addresses.context("ADDRESS")?, ready)
        }
        _ => bail!(
            "usage: lab-peer lines NAME PORT | lab-peer herd NAME PORT | lab-peer udp NAME PORT ADDRESS…"
        ),
    }
}
