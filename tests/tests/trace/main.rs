//! `fairlead trace` in the lab: it explains frames as the documentation shows, has no effect unless it is told to, and
//! refuses what is no frame.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fairlead_tests::lab::{Fairlead, Lab};
use serde_json::Value;

/// Seed of the flow hash that the documented outputs were made with.
const SEED: &str = "000102030405060708090a0b0c0d0e0f\n";
const BALANCER_MAC: &str = "02:00:00:00:02:01";

/// The configuration that the documented outputs were made with.
fn config(lab: &Lab) -> String {
    let (v4, v6) = lab.vips[0];
    let service = |name: &str, vip: IpAddr, port: u16, protocol: &str, mode: &str, backends: &[IpAddr]| {
        let head = format!(
            "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
             mode = \"{mode}\"\ntable_size = 4093\n"
        );
        let backend = |address: &IpAddr| {
            let state = if name == "closed" { "state = \"disabled\"\n" } else { "" };
            format!("[[service.backend]]\naddress = \"{address}\"\n{state}")
        };
        head + &backends.iter().map(backend).collect::<String>()
    };
    let old: Vec<IpAddr> = lab.backends.iter().map(|host| host.v4.into()).collect();
    let new: Vec<IpAddr> = lab.backends.iter().map(|host| host.v6.into()).collect();
    [
        "[[interface]]\nname = \"eth0\"\n\n[limits]\nservices = 8\nbackends = 16\nflows = 65536\n\
         table_slots = 65536\n"
            .to_owned(),
        service("web", v4.into(), 80, "tcp", "ipip", &old),
        service("dns", v4.into(), 53, "udp", "l2", &old),
        service("web6", v6.into(), 80, "tcp", "ipip", &new),
        service("closed", v4.into(), 81, "tcp", "l2", &old),
    ]
    .concat()
}

/// A lab with addresses that are the same each time, and a daemon with the documented configuration. Dropped in this order.
struct Stage {
    daemon: Fairlead,
    lab: Lab,
}

impl Stage {
    fn set() -> Result<Self> {
        let lab = Lab::builder().build()?;
        lab.balancers[0].ns.ip(&format!("link set eth0 address {BALANCER_MAC}\n"))?;
        for (at, backend) in lab.backends.iter().enumerate() {
            backend.ns.ip(&format!("link set eth0 address 02:00:00:00:03:{:02x}\n", at + 1))?;
        }
        let mut daemon = Fairlead::new(&lab, &lab.balancers[0], &config(&lab))?;
        let state = daemon.config_path().with_file_name("state").join("main");
        fs::create_dir_all(&state)?;
        fs::write(state.join("hash-seed"), SEED)?;
        daemon.start()?;
        Ok(Self { daemon, lab })
    }

    /// One frame, explained.
    fn trace(&self, arguments: &str) -> Result<Value> {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.daemon.json(&[&["trace"], &arguments[..]].concat())
    }

    /// All counters, flows and slots.
    fn everything(&self) -> Result<BTreeMap<String, Value>> {
        let mut state = BTreeMap::new();
        for path in ["/v1/counters", "/v1/flows?limit=1000", "/v1/backends"] {
            state.insert(path.to_owned(), self.daemon.get(path)?);
        }
        for map in ["FLOWS", "FLOW_TUPLES", "SLOT_COUNTERS", "GUARD"] {
            let bytes = dump(&self.daemon.pins().join("main/maps").join(map))?;
            state.insert(map.to_owned(), Value::from(bytes));
        }
        Ok(state)
    }
}

/// The bytes of a pinned array, as bpftool would show them.
fn dump(pin: &Path) -> Result<String> {
    let map = aya::maps::MapData::from_pin(pin).with_context(|| format!("cannot open {}", pin.display()))?;
    let info = map.info()?;
    let words =
        lb_user::bpf::mapped::Mapped::<u64>::new(map.fd(), info.max_entries() * info.value_size() / 8)?;
    let words = (0..words.len()).map(|at| words.word(at).load(std::sync::atomic::Ordering::Relaxed));
    Ok(words.enumerate().filter(|(_, word)| *word != 0).map(|(at, word)| format!("{at}:{word:x} ")).collect())
}

/// The fenced blocks of the section about `trace`: kind and content.
fn documented() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md"))?;
    let (_, section) =
        text.split_once("\n## Why did my packet …: `trace`\n").context("no section about trace")?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let blocks = section.split("\n```").skip(1).step_by(2);
    Ok(blocks
        .filter_map(|block| block.split_once('\n'))
        .map(|(kind, content)| (kind.to_owned(), content.to_owned()))
        .collect())
}

/// How long ago a packet came depends on when the test runs.
fn without_ages(text: &str) -> String {
    let mut parts = text.split("last packet ");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("last packet ");
        masked.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    }
    masked
}

#[test]
fn ten_documented_frames_are_explained_as_documented() -> Result<()> {
    let stage = Stage::set()?;
    let mut last = Value::Null;
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (kind, content) in documented()? {
        match kind.as_str() {
            "console" => {
                for line in content.lines().filter_map(|line| line.strip_prefix("$ fairlead -o json trace "))
                {
                    last = stage.trace(&line.replace('\'', ""))?;
                }
            }
            "json" => {
                let shown: Value = serde_json::from_str(&content).with_context(|| content.clone())?;
                compared += 1;
                if without_ages(&shown.to_string()) != without_ages(&last.to_string()) {
                    wrong
                        .push(format!("number {compared} is now:\n{}", serde_json::to_string_pretty(&last)?));
                }
            }
            other => bail!("a block of kind {other:?} in the section about trace"),
        }
    }
    ensure!(compared == 10, "{compared} outputs are documented, not ten");
    ensure!(wrong.is_empty(), "docs/OPERATIONS.md is not what trace says:\n{}", wrong.join("\n"));
    Ok(())
}

/// All counters but those in which frames of the lab's own machines count at any time: what they ask each other and
/// what is for no VIP.
fn counters(state: &BTreeMap<String, Value>) -> Result<BTreeMap<String, u64>> {
    let own = |name: &str| name.starts_with("passed_") || ["answered_arp", "answered_nd"].contains(&name);
    let all = state["/v1/counters"]["counters"].as_array().context("a list of counters")?;
    let one = |counter: &Value| Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?));
    let all: Option<BTreeMap<_, _>> = all.iter().map(one).collect();
    Ok(all.context("names and numbers")?.into_iter().filter(|(name, _)| !own(name)).collect())
}

#[test]
fn trace_leaves_everything_as_it_was_and_commit_does_not() -> Result<()> {
    let stage = Stage::set()?;
    let vip = stage.lab.vips[0].0;
    let frame = format!("--from 10.20.1.1:40001 --to {vip}:80");
    let before = stage.everything()?;
    for change in ["", " --flags A", " --flags F", " --ttl 1", " --payload 1400"] {
        let told = stage.trace(&format!("{frame}{change}"))?;
        ensure!(told["service"] == "web", "{change}: {told}");
    }
    let told = stage.trace(&format!("--from 10.20.1.1:40001 --to {vip}:82"))?;
    ensure!(told["reason"] == "unknown_port" && told["service"].is_null(), "{told}");
    stage.trace(&format!("--from 10.20.1.1:40001 --to {vip}:53 --proto udp"))?;
    let after = stage.everything()?;
    for key in ["FLOWS", "FLOW_TUPLES", "SLOT_COUNTERS", "GUARD", "/v1/flows?limit=1000", "/v1/backends"] {
        ensure!(before[key] == after[key], "{key} was changed:\n{}\n{}", before[key], after[key]);
    }
    let (counted, expected) = (counters(&after)?, counters(&before)?);
    ensure!(counted.len() > 20, "only {} counters are compared", counted.len());
    ensure!(counted == expected, "{expected:?} became {counted:?}");

    let told = stage.trace(&format!("{frame} --commit"))?;
    ensure!(told["verdict"] == "tx" && told["flow"] == "miss", "{told}");
    let committed = stage.everything()?;
    let risen: Vec<(String, u64)> =
        counters(&committed)?.into_iter().filter(|(name, packets)| counted[name] != *packets).collect();
    ensure!(risen == [("flow_stored".to_owned(), 1), ("forwarded".to_owned(), 1)], "{risen:?}");
    for key in ["FLOWS", "FLOW_TUPLES", "SLOT_COUNTERS", "GUARD", "/v1/backends"] {
        ensure!(after[key] != committed[key], "{key} was not changed by --commit");
    }
    let told = stage.trace(&format!("{frame} --flags A"))?;
    ensure!(told["flow"] == "hit" && told["table_index"].is_null(), "{told}");
    Ok(())
}

#[test]
fn the_attached_program_does_what_the_dry_run_says() -> Result<()> {
    let stage = Stage::set()?;
    let vip = stage.lab.vips[0].0;
    let frames = [
        "80",
        "80 --flags A",
        "80 --flags F",
        "80 --flags S --payload 700",
        "80 --ttl 1",
        "80 --payload 1460",
    ];
    let others = ["81", "82", "53 --proto udp", "53 --proto udp --payload 1400"];
    for (number, frame) in frames.into_iter().chain(others).enumerate() {
        // Each twice: as the first packet of its flow, and as the next.
        for _ in 0..2 {
            let line = format!("--from 10.20.1.1:{} --to {vip}:{frame}", 41_000 + number);
            let (said, done) = (stage.trace(&line)?, stage.trace(&format!("{line} --commit"))?);
            for key in ["verdict", "reason", "service", "backend", "flow", "output_hex"] {
                ensure!(said[key] == done[key], "{line}: {key} {} became {}", said[key], done[key]);
            }
        }
    }
    Ok(())
}

/// A capture of these frames.
fn pcap(link_type: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, link_type]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        bytes.extend([0, 0, length, length].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(frame);
    }
    bytes
}

#[test]
fn each_frame_of_a_capture_is_explained_in_its_order() -> Result<()> {
    let stage = Stage::set()?;
    let frame = |port: u8| {
        let mut frame = vec![2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 1, 8, 0];
        let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 20, 1, 1, 10, 20, 9, 1];
        frame.extend(ip.iter().chain(&[0x9c, 0x40, 0, port, 0, 8, 0, 0]));
        frame
    };
    // More than one request takes.
    let frames: Vec<Vec<u8>> = (0..70).map(|at| frame(if at % 2 == 0 { 53 } else { 54 })).collect();
    let path = stage.lab.folder().join("frames.pcap");
    fs::write(&path, pcap(1, &frames))?;
    let path = path.to_string_lossy().into_owned();
    let told = stage.daemon.ok(&["-o", "json", "trace", "--pcap", &path])?;
    let told = told.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    ensure!(told.len() == 70, "{} answers", told.len());
    for (at, one) in told.iter().enumerate() {
        let expected = if at % 2 == 0 { ("tx", "forwarded") } else { ("drop", "unknown_port") };
        ensure!(
            (one["verdict"].as_str(), one["reason"].as_str()) == (Some(expected.0), Some(expected.1)),
            "{one}"
        );
    }
    let text = stage.daemon.ok(&["trace", "--pcap", &path])?;
    ensure!(text.contains("frame 70: drop, unknown_port") && text.contains("  1. in by eth0"), "{text}");
    Ok(())
}

#[test]
fn what_is_no_frame_is_refused_with_a_reason_and_harms_nobody() -> Result<()> {
    let stage = Stage::set()?;
    let file = |name: &str, bytes: &[u8]| -> Result<String> {
        let path = stage.lab.folder().join(name);
        fs::write(&path, bytes)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let whole = pcap(1, &[vec![0; 60]]);
    let cut = file("cut.pcap", &whole[..whole.len() - 7])?;
    let cooked = file("cooked.pcap", &pcap(113, &[vec![0; 60]]))?;
    let noise = file("noise.pcap", b"this is no capture at all, is it?")?;
    for (arguments, code, part) in [
        (vec!["--hex", "020"], 2, "3 hexadecimal digits"),
        (vec!["--hex", "zz"], 2, "'z'"),
        (vec!["--pcap", &cut], 2, "cut short behind frame 0"),
        (vec!["--pcap", &cooked], 2, "link type 113"),
        (vec!["--pcap", &noise], 2, "neither pcap nor pcapng"),
        (vec!["--hex", "0200", "--interface", "eth9"], 1, "attached to: eth0"),
        (vec!["--from", "10.20.1.1:1", "--to", "[fd20::29:1]:80"], 2, "one family"),
    ] {
        let answer = stage.daemon.cli(&[&["trace"], &arguments[..]].concat())?;
        ensure!(answer.code == code && answer.stderr.contains(part), "{arguments:?}: {}", answer.stderr);
    }
    for (body, status, part) in [
        ("{\"frames\":[]}".to_owned(), 400, "0 frames"),
        ("{\"frames\":[\"020\"]}".to_owned(), 400, "frame 1"),
        ("{\"frames\":[\"00\"],\"what\":1}".to_owned(), 400, "what"),
        (format!("{{\"frames\":[\"{}\"]}}", "00".repeat(9_239)), 400, "9239 bytes"),
        (format!("{{\"frames\":[{}\"\"]}}", "\"00\",".repeat(64)), 400, "65 frames"),
        (format!("{{\"frames\":[\"{}\"]}}", "00".repeat(700_000)), 413, "larger than"),
        ("{\"frames\":[\"00\"],\"interface\":\"eth9\"}".to_owned(), 404, "eth9"),
    ] {
        let answer = stage.daemon.call("POST", "/v1/trace", &body)?;
        ensure!(answer.status == status && answer.body.contains(part), "{}: {}", answer.status, answer.body);
    }
    let told = stage.trace("--hex 02000000020102000000000108")?;
    ensure!(told["verdict"] == "pass" && told["reason"] == "passed_not_ip", "{told}");
    ensure!(stage.trace("--from 10.20.1.1:1 --to 10.20.9.1:80")?["verdict"] == "tx", "it still works");
    Ok(())
}
