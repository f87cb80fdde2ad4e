//! The lab itself: what it promises must hold before anything measured in it means something.

use anyhow::{Context, Result};
use fairlead_tests::lab::{
    Broken, Lab, LineClient, Namespace, Nginx, Peer, SILENCE, Tries, http, udp, wait_until,
};
use nix::sys::signal::{Signal, kill};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Long enough for a fault to be noticed, silence included.
const NOTICED: Duration = Duration::from_secs(6);
const LINES: u16 = 7000;

fn ends(lab: &Lab, count: usize) -> Vec<(IpAddr, SocketAddr)> {
    let (host, client) = (&lab.backends[0], &lab.client);
    let pairs = [(client.v4.into(), (host.v4, LINES).into()), (client.v6.into(), (host.v6, LINES).into())];
    pairs.into_iter().cycle().take(count).collect()
}

#[test]
fn client_reaches_every_backend_in_both_families_from_every_address() -> Result<()> {
    let lab = Lab::builder().client_addresses(3).backends(2).build()?;
    let web = lab.backends.iter().map(|host| Nginx::start(&lab, host)).collect::<Result<Vec<_>>>()?;
    for host in &lab.backends {
        for index in 0..3 {
            let row = fairlead_tests::lab::plan::Row::Client;
            let ends: [(IpAddr, SocketAddr); 2] =
                [(row.v4(index).into(), (host.v4, 80).into()), (row.v6(index).into(), (host.v6, 80).into())];
            for (source, target) in ends {
                let answer = lab.client.ns.enter(|| http::get(Some(source), target, "/", http::PATIENCE));
                let answer = answer.with_context(|| format!("from {source} to {target}"))?;
                assert_eq!(
                    (answer.status, answer.body.trim()),
                    (200, host.role.as_str()),
                    "from {source} to {target}"
                );
            }
        }
    }
    drop(web);
    Ok(())
}

#[test]
fn upload_arrives_whole_and_a_killed_server_refuses() -> Result<()> {
    let lab = Lab::builder().backends(1).balancers(0).build()?;
    let mut web = Nginx::start(&lab, &lab.backends[0])?;
    let target = SocketAddr::from((lab.backends[0].v4, 80));
    let tries = Tries { upload: 1_000_000, threads: 2, ..Tries::new(vec![lab.client.v4.into()], target) };
    for attempt in tries.clone().run(&lab.client.ns, 4) {
        assert_eq!(attempt.outcome.as_deref(), Ok("backend1"));
    }
    web.kill();
    for attempt in tries.clone().run(&lab.client.ns, 4) {
        let error = attempt.outcome.expect_err("nobody serves");
        assert!(error.contains("refused"), "{error}");
    }
    web.restart(&lab)?;
    assert!(tries.run(&lab.client.ns, 1).iter().all(|attempt| attempt.outcome.is_ok()));
    Ok(())
}

#[test]
fn healthy_lines_stay_whole_and_carry_both_directions() -> Result<()> {
    let lab = Lab::builder().backends(1).balancers(0).build()?;
    let _server = Peer::lines(&lab, &lab.backends[0], LINES)?;
    let client = LineClient::start(&lab.client.ns);
    let mark = Instant::now();
    client.open(&ends(&lab, 200))?;
    // One answer and one line of its own every 200 ms: ten of them take a second.
    wait_until("every connection has carried ten lines", NOTICED, || {
        Ok(client.lines().iter().all(|line| line.heard >= 10))
    })?;
    assert_eq!(client.lines().len(), 200);
    assert!(client.broken_since(mark).is_empty(), "{:?}", client.broken_since(mark));
    Ok(())
}

#[test]
fn killed_server_breaks_its_lines_and_replacements_are_whole() -> Result<()> {
    let lab = Lab::builder().backends(1).balancers(0).build()?;
    let mut server = Peer::lines(&lab, &lab.backends[0], LINES)?;
    let client = LineClient::start(&lab.client.ns);
    let mark = Instant::now();
    client.open(&ends(&lab, 10))?;
    server.kill();
    wait_until("all are broken", NOTICED, || Ok(client.broken_since(mark).len() == 10))?;
    for line in client.broken_since(mark) {
        let (_, why) = line.broken.context("broken")?;
        assert!(matches!(why, Broken::Eof | Broken::Reset(_)), "{why}");
    }
    let _server = Peer::lines(&lab, &lab.backends[0], LINES)?;
    assert_eq!(client.replace_broken()?, 10);
    assert_eq!(client.replace_broken()?, 0);
    assert_eq!((client.lines().len(), client.broken_since(mark).len()), (10, 0));
    Ok(())
}

#[test]
fn cut_link_is_noticed_as_silence() -> Result<()> {
    let lab = Lab::builder().backends(1).balancers(0).build()?;
    let _server = Peer::lines(&lab, &lab.backends[0], LINES)?;
    let client = LineClient::start(&lab.client.ns);
    let mark = Instant::now();
    client.open(&ends(&lab, 4))?;
    lab.bridge.ip("link set backend1 nomaster")?;
    wait_until("all are broken", SILENCE * 2, || Ok(client.broken_since(mark).len() == 4))?;
    for line in client.broken_since(mark) {
        assert_eq!(line.broken.map(|(_, why)| why), Some(Broken::Silent));
    }
    Ok(())
}

#[test]
fn udp_is_answered_from_the_address_that_was_asked() -> Result<()> {
    let lab = Lab::builder().backends(1).balancers(0).build()?;
    let (host, client) = (&lab.backends[0], &lab.client);
    let _server = Peer::udp(&lab, host, 5300, &[host.v4.into(), host.v6.into()])?;
    let any: [SocketAddr; 2] = [(client.v4, 0).into(), (client.v6, 0).into()];
    for (source, target) in any.into_iter().zip([IpAddr::from(host.v4), host.v6.into()]) {
        let socket = client.ns.enter(|| udp::open(source, (target, 5300).into(), http::PATIENCE))?;
        assert_eq!(udp::ask(&socket, "who is there")?, "backend1");
    }
    Ok(())
}

#[test]
fn vip_of_a_backend_is_not_announced_on_the_segment() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    let web = lab.backends.iter().map(|host| Nginx::start(&lab, host)).collect::<Result<Vec<_>>>()?;
    for vip in lab.vips.iter().flat_map(|(v4, v6)| [IpAddr::from(*v4), IpAddr::from(*v6)]) {
        let target = SocketAddr::new(vip, 80);
        let local = lab.backends[0].ns.enter(|| http::get(None, target, "/", http::PATIENCE))?;
        assert_eq!(local.body.trim(), "backend1", "the backend itself has {vip}");
        let patience = Duration::from_millis(500);
        assert!(
            lab.client.ns.enter(|| http::get(None, target, "/", patience)).is_err(),
            "{vip} was answered"
        );
    }
    drop(web);
    Ok(())
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut seen = (String::new(), String::new(), 0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::builder().backends(1).build().expect("a lab");
        let server = Peer::lines(&lab, &lab.backends[0], LINES).expect("a server");
        let pins = lab.pin_folder("balancer1").expect("a BPF file system");
        std::fs::create_dir(&pins).expect("a folder of pins");
        seen = (lab.folder().display().to_string(), pins.display().to_string(), server.pid());
        // Not even the process that nobody drops.
        std::mem::forget(server);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let (folder, pins, pid) = seen;
    let prefix = format!("{}-", Path::new(&folder).file_name().expect("a name").display());
    let names = std::fs::read_dir("/run/netns").expect("a listing").flatten();
    assert_eq!(names.filter(|name| name.file_name().to_string_lossy().starts_with(&prefix)).count(), 0);
    assert!(!Path::new(&folder).exists() && !Path::new(&pins).exists());
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    assert!(environ.is_empty(), "process {pid} lives");
}

#[test]
fn work_inside_a_namespace_sees_only_its_devices() -> Result<()> {
    let lab = Lab::builder().backends(1).balancers(0).build()?;
    let devices = |ns: &Namespace| {
        ns.enter(|| {
            let dir = "/proc/self/task";
            let thread = nix::unistd::gettid();
            std::fs::read_to_string(format!("{dir}/{thread}/net/dev")).map(|text| text.contains("br0:"))
        })
    };
    assert!(devices(&lab.bridge)? && !devices(&lab.client.ns)?);
    Ok(())
}

/// Runs itself again as the victim: a process whose lab must vanish although it gets no chance to unwind.
#[test]
fn nothing_is_left_after_an_interrupt() -> Result<()> {
    const VICTIM: &str = "FAIRLEAD_LAB_VICTIM";
    if let Some(report) = std::env::var_os(VICTIM) {
        let lab = Lab::builder().backends(1).build()?;
        let _web = Nginx::start(&lab, &lab.backends[0])?;
        std::fs::write(report, lab.folder().display().to_string())?;
        std::thread::sleep(Duration::from_secs(60));
        return Ok(());
    }
    let report = std::env::temp_dir().join(format!("lab-victim-{}", std::process::id()));
    let mut victim = std::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "nothing_is_left_after_an_interrupt"])
        .env(VICTIM, &report)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let mut folder = String::new();
    let up = wait_until("the victim has its lab", Duration::from_secs(20), || {
        folder = std::fs::read_to_string(&report).unwrap_or_default();
        Ok(!folder.is_empty())
    });
    kill(nix::unistd::Pid::from_raw(victim.id().cast_signed()), Signal::SIGINT)?;
    let status = victim.wait()?;
    up?;
    std::fs::remove_file(&report)?;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc_sigint()), "{status}");
    let prefix = format!("{}-", Path::new(&folder).file_name().context("a name")?.display());
    let names = std::fs::read_dir("/run/netns")?.flatten();
    assert_eq!(names.filter(|name| name.file_name().to_string_lossy().starts_with(&prefix)).count(), 0);
    assert!(!Path::new(&folder).exists());
    Ok(())
}

fn libc_sigint() -> i32 {
    Signal::SIGINT as i32
}
