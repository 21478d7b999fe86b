//! `hookpack migrate`

use std::process::ExitCode;

use anyhow::Result;

use super::{Setup, StoreArgs, output};
use crate::store::{self, Database};

pub(super) async fn run(setup: &Setup, args: StoreArgs) -> Result<ExitCode> {
    let config = setup.config(args.flags())?;
    let database = Database::open(&config, &setup.environment).await?;
    let pool = database.pool().await?;
    store::migrate(&pool).await?;
    database.admit_readers(&pool).await?;
    pool.close().await;
    database.close().await;
    output::line("the database's schema is up to date");
    Ok(ExitCode::SUCCESS)
}
