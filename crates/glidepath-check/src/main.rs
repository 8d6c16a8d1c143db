//! The program: flags in, verdicts out.
fn main() {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let mut settings = glidepath_check::settings::Settings::for_command(command);
    if let Ok(only) = std::env::var("ONLY") {
        settings.only = vec![only];
    }
    glidepath_check::adopt_orphans();
    let run = glidepath_check::suite::run(&settings, &|_| {}).unwrap_or_else(|e| panic!("{e}"));
    for f in &run.found {
        println!("{} {} {}", f.there, f.name, f.note);
    }
    for c in &run.cases {
        println!(
            "{:7} {:6} {} [{:.0}] {} | {}",
            c.verdict,
            c.level,
            c.id,
            c.took_ms,
            c.got,
            c.reason.clone().unwrap_or_default()
        );
    }
    println!("{:?} {}", run.score, run.took_ms);
}
