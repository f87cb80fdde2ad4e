//! The prober against real servers on the loopback.

use lb_core::config::{
    AdminState, Backend, CheckKind, Limits, Mode, Protocol, Service, TableSize, Timeouts, UnknownPort,
    WhenAllDown,
};
use tokio::time::timeout;

use super::*;
use crate::probe::servers::{
    Answer, LOOPBACK, PATIENCE, hasty, http, http_check, patient, port, refusing, silent,
};

/// Short enough not to be waited for, long enough to give way to others.
const SOON: Duration = Duration::from_millis(20);

fn quick(check: Check) -> Check {
    Check { interval: SOON, fast: SOON, down: SOON, ..check }
}

fn tcp() -> Check {
    quick(patient(Check::new(CheckKind::Tcp)))
}

/// A service with one backend on the loopback.
fn service(name: &str, port: u16, check: Option<Check>) -> Service {
    Service {
        name: name.to_owned(),
        vip: [192, 0, 2, 1].into(),
        port,
        protocol: Protocol::Tcp,
        mode: Mode::Ipip,
        table_size: TableSize::Small,
        when_all_down: WhenAllDown::ServeAll,
        unknown_port: UnknownPort::Drop,
        track: true,
        timeouts: Timeouts::default(),
        check,
        backends: vec![Backend { address: LOOPBACK, weight: 1, state: AdminState::Enabled }],
    }
}

fn config(services: Vec<Service>) -> Config {
    Config {
        interfaces: Vec::new(),
        cluster: None,
        sync: None,
        ha: Default::default(),
        limits: Limits::default(),
        metrics: Default::default(),
        services,
    }
}

fn configured(services: Vec<Service>) -> Prober {
    let mut prober = Prober::new();
    prober.configure(now(), &config(services));
    prober
}

async fn next(prober: &mut Prober) -> ProbeEvent {
    timeout(PATIENCE, prober.next()).await.expect("a verdict changes")
}

fn verdict(prober: &Prober, service: &str) -> Verdict {
    let described = prober.describe(service, LOOPBACK).expect(service).verdict;
    assert_eq!(prober.verdicts().get(&(service.to_owned(), LOOPBACK)), Some(&described));
    described
}

#[tokio::test]
async fn backend_that_answers_comes_up_by_one_probe_and_is_told_once() {
    let server = silent();
    let mut prober = configured(vec![service("web", port(&server), Some(tcp()))]);
    assert_eq!(verdict(&prober, "web"), Verdict::Unknown);
    let event = next(&mut prober).await;
    let transition = Transition { from: Verdict::Unknown, to: Verdict::Up, reason: "1 success".to_owned() };
    assert_eq!(event, ProbeEvent { service: "web".to_owned(), address: LOOPBACK, transition });
    assert_eq!(verdict(&prober, "web"), Verdict::Up);
    assert!(timeout(10 * SOON, prober.next()).await.is_err(), "further successes are no news");
}

#[tokio::test]
async fn backend_that_refuses_goes_down_and_says_why() {
    let mut prober = configured(vec![service("web", refusing(), Some(tcp()))]);
    let transition = next(&mut prober).await.transition;
    assert_eq!((transition.from, transition.to), (Verdict::Unknown, Verdict::Down));
    assert_eq!(transition.reason, "3 failures in a row: connection refused");
    let known = prober.describe("web", LOOPBACK).expect("it is checked");
    assert_eq!(known.last_error.as_deref(), Some("connection refused"));
    assert!(known.last_check.is_some());
}

#[tokio::test]
async fn backend_that_dies_goes_down_and_comes_back() {
    // An address of its own: on the common one, another test could take the port in between.
    let own = IpAddr::from([127, 77, 0, 1]);
    let server = std::net::TcpListener::bind((own, 0)).expect("a port of the loopback");
    let at = server.local_addr().expect("it is bound");
    let mut web = service("web", at.port(), Some(tcp()));
    web.backends[0].address = own;
    let mut prober = configured(vec![web]);
    let mut seen = vec![next(&mut prober).await.transition.to];
    drop(server);
    seen.push(next(&mut prober).await.transition.to);
    let _server = std::net::TcpListener::bind(at).expect("the port is free again");
    seen.push(next(&mut prober).await.transition.to);
    assert_eq!(seen, [Verdict::Up, Verdict::Down, Verdict::Up]);
}

#[tokio::test]
async fn one_address_in_two_services_has_two_verdicts() {
    let server = silent();
    let services = vec![service("good", port(&server), Some(tcp())), service("bad", refusing(), Some(tcp()))];
    let mut prober = configured(services);
    next(&mut prober).await;
    next(&mut prober).await;
    assert_eq!((verdict(&prober, "good"), verdict(&prober, "bad")), (Verdict::Up, Verdict::Down));
}

#[tokio::test]
async fn with_nothing_to_probe_it_waits_for_ever() {
    let mut prober = Prober::new();
    assert!(timeout(SOON, prober.next()).await.is_err());
    prober.configure(now(), &config(vec![service("web", refusing(), None)]));
    assert!(timeout(SOON, prober.next()).await.is_err());
    assert_eq!(prober.verdicts(), VerdictMap::new());
    assert_eq!(prober.describe("web", LOOPBACK), None);
}

#[tokio::test]
async fn given_up_waits_lose_nothing() {
    let mut prober = configured(vec![service("web", refusing(), Some(tcp()))]);
    let patient = async {
        loop {
            if let Ok(event) = timeout(Duration::from_millis(1), prober.next()).await {
                return event;
            }
        }
    };
    let event = timeout(PATIENCE, patient).await.expect("a verdict changes");
    assert_eq!(event.transition.reason, "3 failures in a row: connection refused");
}

#[tokio::test]
async fn probes_of_one_backend_do_not_overlap_however_slow_they_are() {
    let server = silent();
    let check = quick(hasty(http_check()));
    let mut prober = configured(vec![service("web", port(&server), Some(check))]);
    loop {
        let event = timeout(Duration::from_millis(5), prober.next()).await;
        assert!(prober.probes.len() <= 1, "{} probes at a time", prober.probes.len());
        if event.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn no_more_probes_than_the_limit_are_on_their_way() {
    let server = silent();
    let check = patient(http_check());
    let services =
        (0..MAX_PROBES + 20).map(|n| service(&format!("s{n}"), port(&server), Some(check.clone())));
    let mut prober = configured(services.collect());
    let fill = async {
        while prober.probes.len() < MAX_PROBES {
            let _ = timeout(SOON, prober.next()).await;
        }
    };
    timeout(PATIENCE, fill).await.expect("all of them start within 100 ms");
    let _ = timeout(SOON, prober.next()).await;
    assert_eq!(prober.probes.len(), MAX_PROBES);
}

#[tokio::test]
async fn reload_keeps_verdicts_whatever_changes_in_the_check() {
    let server = silent();
    let mut prober = configured(vec![service("web", port(&server), Some(tcp()))]);
    next(&mut prober).await;
    let before = prober.serials.clone();
    let other_times = Check { interval: PATIENCE, fall: 9, timeout: SOON, ..tcp() };
    prober.configure(now(), &config(vec![service("web", port(&server), Some(other_times.clone()))]));
    assert_eq!(verdict(&prober, "web"), Verdict::Up);
    assert_eq!(prober.serials, before, "the question is the same: its results go on counting");

    prober.configure(now(), &config(vec![service("web", refusing(), Some(tcp()))]));
    assert_eq!(verdict(&prober, "web"), Verdict::Up);
    let transition = next(&mut prober).await.transition;
    assert_eq!(transition.reason, "3 failures in a row: connection refused");
}

#[tokio::test]
async fn result_from_before_a_reload_is_ignored() {
    let server = silent();
    let mut prober = configured(vec![service("web", port(&server), Some(quick(patient(http_check()))))]);
    while prober.probes.is_empty() {
        let _ = timeout(SOON, prober.next()).await;
    }
    let old = prober.last_serial;
    let other = Check { path: "/other".to_owned(), ..quick(patient(http_check())) };
    prober.configure(now(), &config(vec![service("web", port(&server), Some(other))]));
    // The first of each machine, so the numbers are equal.
    let mut machine = Health::new(HealthParams::from(&http_check()), Duration::ZERO);
    let id = machine.begin(Duration::ZERO);
    let late = Outcome { serial: old, id, result: Ok(()), took: Duration::ZERO };
    assert_eq!(prober.finish(Ok(late)), None);
    assert_eq!(verdict(&prober, "web"), Verdict::Unknown);
}

#[tokio::test]
async fn probe_on_its_way_does_not_hold_up_the_new_question() {
    let server = silent();
    let (answering, _) = http(LOOPBACK, Answer::status(200));
    let check = quick(patient(http_check()));
    let mut prober = configured(vec![service("web", port(&server), Some(check.clone()))]);
    while prober.probes.is_empty() {
        let _ = timeout(SOON, prober.next()).await;
    }
    prober.configure(now(), &config(vec![service("web", answering, Some(check))]));
    assert_eq!(next(&mut prober).await.transition.to, Verdict::Up);
}

#[tokio::test]
async fn backend_that_is_gone_from_the_file_is_forgotten() {
    let server = silent();
    let web = service("web", port(&server), Some(tcp()));
    let mut prober = configured(vec![web.clone(), service("dns", port(&server), Some(tcp()))]);
    next(&mut prober).await;
    next(&mut prober).await;
    prober.configure(now(), &config(vec![web]));
    assert_eq!(prober.verdicts(), VerdictMap::from([(("web".to_owned(), LOOPBACK), Verdict::Up)]));
    assert_eq!(prober.describe("dns", LOOPBACK), None);
}

#[tokio::test]
async fn adopted_verdict_holds_until_results_in_a_row_say_otherwise() {
    let mut prober = configured(vec![service("web", refusing(), Some(tcp()))]);
    let known = ("web".to_owned(), LOOPBACK);
    let stranger = ("dns".to_owned(), LOOPBACK);
    prober.adopt(&VerdictMap::from([(known, Verdict::Up), (stranger, Verdict::Up)]));
    assert_eq!(verdict(&prober, "web"), Verdict::Up);
    let transition = next(&mut prober).await.transition;
    assert_eq!((transition.from, transition.to), (Verdict::Up, Verdict::Down));
    assert_eq!(transition.reason, "3 failures in a row: connection refused");
}
