//! Which database, and what differs between the two.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyPool, ConnectOptions, Connection};

/// Connections for readers and the one writer.
const CONNECTIONS: u32 = 5;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where the messages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    Postgres(String),
}

/// An open database.
pub struct Opened {
    pub pool: AnyPool,
    pub begin: &'static str,
    /// What takes the due messages; couriers that share a database pass over each other's.
    pub claim: &'static str,
    /// What folds the write-ahead log into the file, where there is one.
    pub checkpoint: Option<&'static str>,
    /// Held as long as the database is open. Two couriers on one file would take each other's claims for leftovers.
    pub _lock: Option<Arc<File>>,
}

const CLAIM_SQLITE: &str = "UPDATE messages SET state = 'delivering', due_at = $1, owner = $2 WHERE id IN (\
     SELECT id FROM messages WHERE state IN ('queued', 'delivering') AND due_at <= $3 ORDER BY due_at LIMIT $4) RETURNING *";
const CLAIM_POSTGRES: &str = "UPDATE messages SET state = 'delivering', due_at = $1, owner = $2 WHERE id IN (\
     SELECT id FROM messages WHERE state IN ('queued', 'delivering') AND due_at <= $3 ORDER BY due_at LIMIT $4 \
     FOR UPDATE SKIP LOCKED) RETURNING *";

impl Place {
    /// `postgres://…`, `sqlite:…`, or simply the path of a file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.into()));
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")).unwrap_or(text);
        if path.is_empty() || path.contains("://") || path.contains(":memory:") {
            bail!("the database \"{text}\" is neither the path of a file nor postgres://user@host/name");
        }
        Ok(Self::File(path.into()))
    }

    pub(super) async fn open(&self) -> anyhow::Result<Opened> {
        sqlx::any::install_default_drivers();
        match self {
            Self::File(path) => open_file(path).await,
            Self::Postgres(url) => open_postgres(url).await,
        }
    }
}

impl fmt::Display for Place {
    /// Without user and password, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => {
                let address = url.rsplit_once('@').map_or(url.as_str(), |(_, address)| address);
                let address = address.split('?').next().unwrap_or_default();
                write!(
                    f,
                    "PostgreSQL at {}",
                    address.trim_start_matches("postgres://").trim_start_matches("postgresql://")
                )
            }
        }
    }
}

async fn open_file(path: &Path) -> anyhow::Result<Opened> {
    let path = std::path::absolute(path)?;
    let (lock, alone) = lock(&path)?;
    let url = SqliteConnectOptions::new().filename(&path).create_if_missing(true).to_url_lossy();
    let options = AnyPoolOptions::new().after_connect(|connection, _| {
        // FULL: a commit is on the disk before it is answered, power cut included. NORMAL would promise less in WAL mode.
        Box::pin(async move { sqlx::raw_sql("PRAGMA synchronous = FULL").execute(connection).await.map(drop) })
    });
    let pool =
        connect(options, AnyConnectOptions::from_url(&url)?, "PRAGMA journal_mode = WAL").await.map_err(|error| {
            anyhow!("cannot open the database {}: {error:#}; name another file with --database", path.display())
        })?;
    if alone {
        // The lock says that nobody else is here: whoever held these claims was killed.
        let back =
            sqlx::query("UPDATE messages SET state = 'queued', due_at = $1, owner = NULL WHERE state = 'delivering'");
        let back = back.bind(super::now()).execute(&pool).await?.rows_affected();
        if back > 0 {
            tracing::warn!(count = back, "deliveries that a kill interrupted go back to the queue");
        }
    }
    let checkpoint = Some("PRAGMA wal_checkpoint(TRUNCATE)");
    Ok(Opened { pool, begin: "BEGIN IMMEDIATE", claim: CLAIM_SQLITE, checkpoint, _lock: Some(lock) })
}

/// A file beside the database, because SQLite's own locks and `flock` get in each other's way on some systems.
/// And whether nobody else is here: in a restart the process before this one still is. Its claims are its own, as those of
/// couriers are that share a PostgreSQL database; should it be killed, they lapse.
fn lock(database: &Path) -> anyhow::Result<(Arc<File>, bool)> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = File::options().create(true).append(true).open(&path);
    let file =
        file.map_err(|error| anyhow!("cannot write {}: {error}; name another file with --database", path.display()))?;
    let file = Arc::new(file);
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(TryLockError::WouldBlock) if is_restart() => {
            let waits = Arc::clone(&file);
            // Not one of the runtime's threads: an end would wait for it.
            std::thread::Builder::new().name("lock".into()).spawn(move || {
                if let Err(error) = waits.lock() {
                    tracing::error!(%error, "the database is not locked; do not start another courier on it");
                }
            })?;
            Ok((file, false))
        }
        Err(TryLockError::WouldBlock) => bail!(
            "another courier uses {}; end it, or name another file with --database, or share a PostgreSQL database",
            database.display()
        ),
        Err(TryLockError::Error(error)) => Err(anyhow!("cannot lock {}: {error}", path.display())),
    }
}

/// Whether this process is to take over from another one.
fn is_restart() -> bool {
    std::env::var_os("GLIDEPATH_RESTART").is_some()
}

async fn open_postgres(url: &str) -> anyhow::Result<Opened> {
    let shown = Place::Postgres(url.into());
    let options = url.parse().with_context(|| format!("{shown} is not a usable address"))?;
    let pool = connect(AnyPoolOptions::new(), options, "SELECT 1")
        .await
        .map_err(|error| anyhow!("cannot open {shown}: {error:#}; check DATABASE_URL and that the server runs"))?;
    Ok(Opened { pool, begin: "BEGIN", claim: CLAIM_POSTGRES, checkpoint: None, _lock: None })
}

/// One connection first, with a statement: a pool would try again and again, and in the end tell only of the time it took.
async fn connect(options: AnyPoolOptions, to: AnyConnectOptions, first: &'static str) -> anyhow::Result<AnyPool> {
    let to = to.disable_statement_logging();
    let mut connection = tokio::time::timeout(CONNECT_WITHIN, to.connect()).await.context("it does not answer")??;
    sqlx::raw_sql(first).execute(&mut connection).await?;
    connection.close().await?;
    let pool = options.max_connections(CONNECTIONS).acquire_timeout(CONNECT_WITHIN).connect_with(to).await?;
    sqlx::migrate!().run(&pool).await?;
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        assert_eq!(Place::parse("a/b.db").unwrap(), Place::File("a/b.db".into()));
        assert_eq!(Place::parse("sqlite:b.db").unwrap(), Place::File("b.db".into()));
        assert_eq!(Place::parse("sqlite:///b.db").unwrap(), Place::File("/b.db".into()));
        assert!(matches!(Place::parse("postgres://u:p@h/d").unwrap(), Place::Postgres(_)));
        for wrong in ["", "mysql://h/d", "sqlite::memory:"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let place = Place::parse("postgres://user:p%40ss@host:5432/name?sslmode=require").unwrap();
        assert_eq!(place.to_string(), "PostgreSQL at host:5432/name");
    }
}
