//! Whatever a driver says, in whatever order, the machines keep their books.

mod configuration;
mod driver;
mod step;
#[path = "../support/mod.rs"]
mod support;

use driver::Driver;
use proptest::prelude::*;
use proxy_core::contract::*;
use proxy_core::journal::{ReplayError, replay};
use proxy_core::proxy::Outs;
use step::{Step, step};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn books_balance(
        workers in 1u32..4,
        steps in prop::collection::vec((0u32..4, step()), 1..150),
    ) {
        let mut driver = Driver::new(workers);
        for (worker, step) in steps {
            driver.step(worker % workers, step);
        }
        let journal = String::from_utf8(driver.finish()).unwrap();
        if let Err(error) = replay(&journal) {
            prop_assert!(false, "{}", error);
        }
    }
}

#[test]
fn every_line_of_a_journal_counts() {
    let mut driver = Driver::new(2);
    for n in 0..6 {
        driver.step(
            n % 2,
            Step::Request {
                path: 1,
                downstream: 0,
                ends: true,
            },
        );
        driver.step(n % 2, Step::Connected(0));
        let status = if n == 3 { 503 } else { 200 };
        driver.step(
            n % 2,
            Step::Head {
                attempt: 0,
                status,
                ends: true,
            },
        );
        driver.step(0, Step::Wait(20));
    }
    let journal = String::from_utf8(driver.finish()).unwrap();
    replay(&journal).unwrap();
    let lines: Vec<&str> = journal.lines().collect();
    let whole = |lines: &[&str]| lines.join("\n") + "\n";
    for at in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(at);
        assert!(replay(&whole(&dropped)).is_err(), "dropped {at}");
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        assert!(replay(&whole(&doubled)).is_err(), "doubled {at}");
        for altered in [
            format!("{} ", lines[at]),
            lines[at].replacen('{', "{ ", 1),
            lines[at].replacen(|c: char| c.is_ascii_digit(), "7", 1),
        ] {
            if altered == lines[at] {
                continue;
            }
            let mut changed = lines.clone();
            changed[at] = &altered;
            assert!(replay(&whole(&changed)).is_err(), "changed {at}: {altered}");
        }
    }
    assert_eq!(
        replay(&whole(&lines[..lines.len() - 1])),
        Err(ReplayError::Truncated)
    );
}

#[test]
fn an_idle_tick_changes_nothing() {
    let mut driver = Driver::new(1);
    driver.step(
        0,
        Step::Request {
            path: 1,
            downstream: 0,
            ends: true,
        },
    );
    let before = format!("{:?}", driver.proxy.worker(0));
    let mut out = Out::default();
    let mut proxy = driver.proxy;
    let mut outs = Outs::new(1);
    proxy.handle_worker(driver.now, 0, Input::Tick, &mut outs, None);
    proxy.handle_main(driver.now, MainInput::Tick, &mut outs, None);
    assert_eq!(format!("{:?}", proxy.worker(0)), before);
    out.append(outs.workers.remove(0));
    out.append(outs.main);
    assert_eq!(out, Out::default());
}
