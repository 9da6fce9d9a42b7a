//! The objects of a stored version, read as the caller and checked against the digest.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::stored;
use crate::cli::connection::Connection;
use crate::cli::exit::Exit;
use crate::cli::names::stored_version;
use crate::cli::output::{Format, Output};
use crate::cluster::object::Key;

/// Write the objects of a stored version as YAML, checked against its digest. You need `get` on the `ConfigMaps` of the host that hold it.
#[derive(Args, Debug)]
pub(super) struct PullArgs {
    /// The version, or the name of the Artifact.
    #[arg(value_name = "SOLUTION@VERSION", value_parser = stored_version)]
    what: String,
    /// Write it into this file instead, which must not exist.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(connection: &Connection, args: &PullArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    if out.format() == Format::Csv {
        return Err(Exit::Usage.because("-o csv is for lists of records; here it is yaml, json or name"));
    }
    let artifact = stored::named(connection, connection.namespace(), &args.what).await?;
    let name = artifact.name_any();
    let bundle = stored::objects(connection, &artifact).await?;
    let objects = bundle.objects();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    if let Some(file) = &args.out {
        let text = if out.format() == Format::Json { format!("{}\n", serde_json::to_string_pretty(&list)?) } else { documents(objects)? };
        let written = fs::File::create_new(file).and_then(|mut to| to.write_all(text.as_bytes()));
        written.with_context(|| format!("writing {}", file.display()))?;
        out.note(&format!("{} objects of {name} written to {}", objects.len(), file.display()))?;
        return Ok(());
    }
    let names: Vec<String> = objects.iter().map(name_of).collect();
    match out.format() {
        Format::Json => out.one(&list, "", ""),
        Format::Name => out.one(&list, &names.join("\n"), ""),
        Format::Table | Format::Wide | Format::Yaml | Format::Csv => out.documents(objects),
    }
}

fn name_of(object: &Value) -> String {
    let key = Key::of(object);
    let group = if key.group.is_empty() { String::new() } else { format!(".{}", key.group) };
    format!("{}{group}/{}", key.kind.to_lowercase(), key.name)
}

/// One YAML document for each object.
fn documents(objects: &[Value]) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object)?);
    }
    Ok(text)
}
