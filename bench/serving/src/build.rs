//! What the dependency costs whoever builds: crates, seconds, bytes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::clock::{now, since};
use crate::parts::{Job, Plan};
use crate::question::{Group, Row, Wanted};

/// A program as its user would have it: a package of its own.
#[derive(Clone, Copy)]
struct Hello {
    name: &'static str,
    ours: bool,
    source: &'static str,
    dependencies: &'static str,
}

const WITH_AXUM: &str = "axum::serve";

const HELLOS: [Hello; 2] = [
    Hello {
        name: WITH_AXUM,
        ours: false,
        source: "bench/serving/examples/hello_axum.rs",
        // HTTP/2, as glidepath has it; without, axum takes 8 crates less.
        dependencies: "axum = { version = \"0.8\", features = [\"http2\"] }\n\
                       tokio = { version = \"1\", features = [\"macros\", \"net\", \"rt-multi-thread\", \"signal\", \"time\"] }\n",
    },
    Hello {
        name: "glidepath",
        ours: true,
        source: "crates/glidepath/examples/hello.rs",
        dependencies: "axum = \"0.8\"\n\
                       glidepath = { path = \"{root}/crates/glidepath\" }\n\
                       tokio = { version = \"1\", features = [\"macros\", \"net\", \"rt-multi-thread\", \"time\"] }\n",
    },
];

pub(crate) fn plan() -> anyhow::Result<Plan> {
    let mut plan = Plan::new(
        "What building costs",
        "The README's example as a package of its own, and the same with axum::serve and its own way to end, with HTTP/2 in both \
         (axum alone takes 8 crates less without it). Crates are all that cargo tree names without build and test dependencies, \
         the program itself left out. Each release build begins with nothing built; the sizes are of stripped programs.",
        3,
    );
    for (title, unit) in [("crates", ""), ("release build from nothing", "s"), ("stripped program", "KB")] {
        let mut group = Group::new(title, unit, Some(WITH_AXUM));
        group.rows = HELLOS.iter().map(|hello| Row::new(hello.name, hello.ours)).collect();
        plan.question.groups.push(group);
    }
    plan.question.groups[0].wanted = Some(Wanted::Above(10.0, WITH_AXUM.to_owned()));
    for (row, hello) in HELLOS.into_iter().enumerate() {
        let rows = (0..3).map(|group| (group, row)).collect();
        plan.jobs.push(Job { name: hello.name.to_owned(), rows, measure: Box::new(move || measure(hello)) });
    }
    Ok(plan)
}

fn measure(hello: Hello) -> anyhow::Result<Vec<f64>> {
    let package = write(hello)?;
    let tree = cargo(&package, &["tree", "--prefix", "none", "--edges", "normal"])?;
    // Downloads are no build.
    cargo(&package, &["fetch"])?;
    let target = package.join("target");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    let began = now();
    cargo(&package, &["build", "--release"])?;
    let took = since(began);
    let size = fs::metadata(target.join("release/hello"))?.len();
    fs::remove_dir_all(&target)?;
    Ok(vec![crates(&tree) as f64, took.as_secs_f64(), size as f64 / 1000.0])
}

/// Each once, and not the first, which is the program.
fn crates(tree: &str) -> usize {
    let lines: BTreeSet<_> = tree.lines().skip(1).map(|line| line.trim_end_matches(" (*)").trim()).collect();
    lines.iter().filter(|line| !line.is_empty()).count()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this lies two folders below the root")
}

/// With the versions that this tree has.
fn write(hello: Hello) -> anyhow::Result<PathBuf> {
    let root = root();
    let package = root.join("target/bench/build").join(if hello.ours { "glidepath" } else { "axum" });
    fs::create_dir_all(package.join("src")).with_context(|| format!("making {}", package.display()))?;
    let dependencies = hello.dependencies.replace("{root}", &root.to_string_lossy());
    let manifest = format!(
        "[workspace]\n[package]\nname = \"hello\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n\
         [profile.release]\nstrip = true\n"
    );
    fs::write(package.join("Cargo.toml"), manifest)?;
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock"))?;
    fs::copy(root.join(hello.source), package.join("src/main.rs")).with_context(|| hello.source.to_owned())?;
    Ok(package)
}

fn cargo(package: &Path, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(std::env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")));
    command.args(args).current_dir(package).env("CARGO_TARGET_DIR", package.join("target")).env_remove("RUSTFLAGS");
    let told = command.stdin(Stdio::null()).output().context("cargo can't be started")?;
    ensure!(told.status.success(), "cargo {}: {}", args.join(" "), String::from_utf8_lossy(&told.stderr).trim());
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_counted_once_and_the_program_not_at_all() {
        let tree = "hello v0.0.0 (/x)\naxum v0.8.9\nbytes v1.0.0\nbytes v1.0.0 (*)\nserde v1.0.0 (proc-macro)\n\n";
        assert_eq!(crates(tree), 3);
    }
}
