use std::path::Path;
fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap();
    let seed: Option<u64> = args.next().map(|s| s.parse().unwrap());
    let mut d = Vec::new();
    let scenario = sim::plan::read_scenario(Path::new(&path), &[], &mut d);
    let plan = scenario.and_then(|s| {
        sim::Plan::new(&s, sim::Overrides { on_loopback: true, ..Default::default() }, &mut d)
    });
    println!("{}", source::render(&d, false));
    let plan = plan.unwrap();
    let t = std::time::Instant::now();
    let r = verify::rehearse::rehearse(&plan, None, seed.unwrap_or(plan.seed), Path::new("/work/tools/v/bin/envoy"));
    match r {
        Ok(r) => {
            if std::env::var_os("ALL").is_some() {
                for w in &r.agreement.windows { println!("== {:?}..{:?} {}", w.from, w.to, w.after); for f in &w.figures { println!("   {} {} envoy {} core {:.1} sd {:.1} [{:.1}, {:.1}]", if f.agrees() {" "} else {"X"}, f.what, f.envoy, f.core_mean, f.core_deviation, f.at_least, f.at_most) } }
                for f in &r.agreement.ejections { println!("   {} {} envoy {} core {:.1} sd {:.1} [{:.1}, {:.1}]", if f.agrees() {" "} else {"X"}, f.what, f.envoy, f.core_mean, f.core_deviation, f.at_least, f.at_most) }
            }
            println!("{r}\n{:?}", t.elapsed());
        }
        Err(e) => println!("{e}"),
    }
}
