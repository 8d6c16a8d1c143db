//! The start: settings, and what is said when it does not work.

use std::path::Path;

use crate::harness::{Courier, within};

/// Runs courier until it ends by itself; its code and standard error.
async fn fails(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Courier::command(dir, args).envs(env.iter().copied()).output();
    let output = within("the end", output).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_said_in_one_line_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    std::fs::write(dir.path().join("wrong.toml"), "listen = \"127.0.0.1:0\"\ngrase = \"5s\"\n").unwrap();
    std::fs::write(
        dir.path().join("no.db"),
        "this is no database, whatever its name says; it is long enough to be read",
    )
    .unwrap();
    for (args, env, said) in [
        (&["--listen", &taken][..], &[][..], "choose another address with --listen"),
        (&["--config", "wrong.toml"], &[], "wrong.toml: line 2: unknown field `grase`"),
        (&["--config", "missing.toml"], &[], "cannot read missing.toml"),
        (&["--listen", "127.0.0.1:0", "--database", "no.db"], &[], "cannot open the database"),
        (&["--listen", "127.0.0.1:0", "--database", "no/where.db"], &[], "name another file with --database"),
        (
            &["--listen", "127.0.0.1:0", "--database", "postgres://127.0.0.1:1/x"],
            &[],
            "check DATABASE_URL and that the server runs",
        ),
        (
            &["--listen", "127.0.0.1:0"],
            &[("DATABASE_URL", "mysql://host/name")],
            "neither the path of a file nor postgres://",
        ),
        (&["--listen", "127.0.0.1:0"], &[("COURIER_SECRET", "whsec_%%")], "secret: "),
        (&["--concurrency", "0"], &[], "concurrency: must be at least 1"),
        (&["--log", "a=b=c"], &[], "is not a filter"),
    ] {
        // A backtrace that somebody asked for elsewhere does not belong in here.
        let (code, stderr) = fails(dir.path(), args, &[env, &[("RUST_BACKTRACE", "1")]].concat()).await;
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_couriers_do_not_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Courier::start(dir.path(), &[]).await;
    let (code, stderr) = fails(dir.path(), &["--listen", "127.0.0.1:0"], &[]).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("another courier uses"), "{stderr}");
    first.kill().await;
    Courier::start(dir.path(), &[]).await.land().await; // a kill leaves no lock behind
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("courier.toml"), "database = \"file.db\"\nlog_format = \"json\"\n").unwrap();
    for (flag, env, made) in
        [(Some("flag.db"), Some("env.db"), "flag.db"), (None, Some("env.db"), "env.db"), (None, None, "file.db")]
    {
        let mut command = Courier::command(dir.path(), &["--config", "courier.toml"]);
        command.args(flag.map(|path| ["--database", path]).into_iter().flatten());
        command.envs(env.map(|path| ("DATABASE_URL", path)));
        let mut courier = Courier::spawn(command, dir.path()).await;
        courier.land().await;
        assert!(std::fs::remove_file(dir.path().join(made)).is_ok(), "{made}");
        assert!(courier.log().contains("{\"timestamp\""), "the file's other settings hold: {}", courier.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_tells_every_setting_and_its_variable() {
    let dir = tempfile::tempdir().unwrap();
    let output = within("help", Courier::command(dir.path(), &["--help"]).output()).await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for word in ["--listen", "COURIER_LISTEN", "--database", "DATABASE_URL", "--grace", "[default: 30s]", "Try it:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
