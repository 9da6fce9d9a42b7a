//! What differs between two stored versions.

use std::io::Write;

use clap::Args;
use kube::ResourceExt;

use super::stored;
use crate::cli::connection::Connection;
use crate::cli::difference::{self, Compared};
use crate::cli::names::stored_version;
use crate::cli::output::Output;

/// Show what differs between the objects of two stored versions, with old and new values. Nothing of Secrets is shown. You need `get` on the
/// `ConfigMaps` of the host that hold them.
#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// A version, or the name of an Artifact.
    #[arg(value_name = "SOLUTION@VERSION", value_parser = stored_version)]
    before: String,
    /// What it is compared with.
    #[arg(value_name = "SOLUTION@VERSION", value_parser = stored_version)]
    after: String,
}

pub(super) async fn run(connection: &Connection, args: &DiffArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    let host = connection.namespace();
    let (before, after) = (stored::named(connection, host, &args.before).await?, stored::named(connection, host, &args.after).await?);
    let (old, new) = (stored::objects(connection, &before).await?, stored::objects(connection, &after).await?);
    let objects = difference::between(old.objects(), new.objects());
    let compared = Compared { before: before.name_any(), after: after.name_any(), objects };
    let name = compared.after.clone();
    compared.print(&name, out)
}
