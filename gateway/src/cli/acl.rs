//! `forebay acl`.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use forebay_access::acls::{
    Binding, CLUSTER_NAME, Filter, NamePattern, Operation, PatternFilter, Permission, ResourceType,
};
use serde::Serialize;

use super::{BootstrapArgs, CommandError, print_json};
use crate::client::Client;

/// What can be done with permissions.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  forebay acl list
  forebay acl list --of mia
  forebay acl allow mia read --topic readings
  forebay acl allow mia read --group panel- --prefix
  forebay acl deny mia all --topic analytics. --prefix --host 192.0.2.7
  forebay acl remove mia

These are the permissions of Kafka clients that the node keeps beside the
[[permission]] sections of its configuration; any Kafka tool changes the same
ones. Sections of the configuration are listed too, and changed there. A user
who reads with a consumer group needs read on the topic and on the group.")]
pub enum AclCommand {
    /// List permissions, those of the configuration included
    List(ListArgs),
    /// Allow a user something
    Allow(ChangeArgs),
    /// Deny a user something, whatever else allows it
    Deny(ChangeArgs),
    /// Remove permissions of a user
    Remove(RemoveArgs),
}

/// What a permission is about.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// A topic; * is every topic
    #[arg(long, value_name = "NAME", conflicts_with_all = ["group", "cluster"])]
    topic: Option<String>,
    /// A consumer group; * is every group
    #[arg(long, value_name = "NAME", conflicts_with = "cluster")]
    group: Option<String>,
    /// The node as such: creating topics, listing permissions
    #[arg(long)]
    cluster: bool,
}

/// Arguments of `acl list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Permissions of one user
    #[arg(long, value_name = "USER")]
    of: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    node: BootstrapArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `acl allow` and `acl deny`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// The user; * is everybody, ANONYMOUS whoever has not logged in
    name: String,
    /// Operations with commas: read, write, create, delete, alter, describe,
    /// describe-configs, alter-configs, cluster-action, idempotent-write, all
    #[arg(value_delimiter = ',', value_parser = parse_operation, required = true)]
    operations: Vec<Operation>,
    #[command(flatten)]
    place: PlaceArgs,
    /// The name is the beginning of names
    #[arg(long)]
    prefix: bool,
    /// Only from this IP address
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(flatten)]
    node: BootstrapArgs,
}

/// Arguments of `acl remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The user
    name: String,
    /// Operations with commas; all without
    #[arg(value_delimiter = ',', value_parser = parse_operation)]
    operations: Vec<Operation>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    node: BootstrapArgs,
}

/// A permission for a script.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    permission: &'static str,
    principal: &'a str,
    host: &'a str,
    operation: &'static str,
    resource: &'static str,
    pattern: &'static str,
    name: &'a str,
}

impl PlaceArgs {
    fn named(&self) -> Option<(ResourceType, &str)> {
        match (&self.topic, &self.group) {
            (Some(topic), _) => Some((ResourceType::Topic, topic)),
            (None, Some(group)) => Some((ResourceType::Group, group)),
            (None, None) => self
                .cluster
                .then_some((ResourceType::Cluster, CLUSTER_NAME)),
        }
    }

    /// A filter for what is about the place.
    fn filter(&self, user: Option<&str>, pattern: PatternFilter) -> Filter {
        let named = self.named();
        Filter {
            resource: named.map(|(resource, _)| resource),
            name: named.map(|(_, name)| name.to_owned()),
            pattern,
            principal: user.map(principal),
            ..Filter::all()
        }
    }
}

fn principal(user: &str) -> String {
    match user.starts_with("User:") {
        true => user.to_owned(),
        false => format!("User:{user}"),
    }
}

fn parse_operation(text: &str) -> Result<Operation, String> {
    Operation::named(text).ok_or_else(|| {
        let words: Vec<&str> = Operation::ALL.iter().map(|known| known.word()).collect();
        format!("expected one of {}", words.join(", "))
    })
}

/// Runs one command about permissions.
///
/// # Errors
/// The node does not answer or refuses.
pub async fn execute(command: AclCommand) -> Result<bool, CommandError> {
    match command {
        AclCommand::List(args) => list(args).await,
        AclCommand::Allow(args) => change(args, Permission::Allow).await,
        AclCommand::Deny(args) => change(args, Permission::Deny).await,
        AclCommand::Remove(args) => remove(args).await,
    }
}

async fn list(args: ListArgs) -> Result<bool, CommandError> {
    let filter = args.place.filter(args.of.as_deref(), PatternFilter::Match);
    let mut client = Client::connect(args.node.endpoint()).await?;
    let found = client.acls(&filter).await?;
    if args.json {
        let shown: Vec<Shown<'_>> = found.iter().map(shown).collect();
        print_json(&shown)?;
        return Ok(true);
    }
    let mut out = io::stdout().lock();
    if found.is_empty() {
        writeln!(out, "no permissions")?;
    }
    for binding in &found {
        writeln!(out, "{}", sentence(binding))?;
    }
    Ok(true)
}

async fn change(args: ChangeArgs, permission: Permission) -> Result<bool, CommandError> {
    let Some((resource, name)) = args.place.named() else {
        return Err(CommandError::Usage(
            "say what it is about: --topic, --group or --cluster".to_owned(),
        ));
    };
    let pattern = match args.prefix {
        true => NamePattern::Prefixed,
        false => NamePattern::Literal,
    };
    let bindings = args.operations.iter().map(|operation| Binding {
        principal: principal(&args.name),
        resource,
        name: name.to_owned(),
        pattern,
        operation: *operation,
        host: args.host.clone().unwrap_or_else(|| "*".to_owned()),
        permission,
    });
    let bindings: Vec<Binding> = bindings.collect();
    for binding in &bindings {
        let checked = binding.check();
        checked.map_err(|error| CommandError::Usage(error.to_string()))?;
    }
    let mut client = Client::connect(args.node.endpoint()).await?;
    for binding in &bindings {
        client.add_acl(binding).await?;
        writeln!(io::stdout(), "{}", sentence(binding))?;
    }
    Ok(true)
}

/// Whether nothing stayed that should have gone.
async fn remove(args: RemoveArgs) -> Result<bool, CommandError> {
    let filter = args.place.filter(Some(&args.name), PatternFilter::Any);
    let filters: Vec<Filter> = match args.operations.is_empty() {
        true => vec![filter],
        false => (args.operations.iter())
            .map(|operation| Filter {
                operation: Some(*operation),
                ..filter.clone()
            })
            .collect(),
    };
    let mut client = Client::connect(args.node.endpoint()).await?;
    let mut is_done = true;
    let mut count = 0;
    for filter in &filters {
        for removal in client.remove_acls(filter).await? {
            match removal.kept {
                None => writeln!(io::stdout(), "removed: {}", sentence(&removal.binding))?,
                Some(why) => {
                    is_done = false;
                    writeln!(io::stderr(), "kept: {}: {why}", sentence(&removal.binding))?;
                }
            }
            count += 1;
        }
    }
    if count == 0 {
        writeln!(io::stdout(), "no permissions")?;
    }
    Ok(is_done)
}

fn shown(binding: &Binding) -> Shown<'_> {
    Shown {
        permission: binding.permission.word(),
        principal: &binding.principal,
        host: &binding.host,
        operation: binding.operation.word(),
        resource: binding.resource.word(),
        pattern: binding.pattern.word(),
        name: &binding.name,
    }
}

fn sentence(binding: &Binding) -> String {
    let verb = match binding.permission {
        Permission::Allow => "may",
        Permission::Deny => "may not",
    };
    let name = match binding.pattern {
        NamePattern::Literal => binding.name.clone(),
        NamePattern::Prefixed => format!("{}*", binding.name),
    };
    let from = match binding.host.as_str() {
        "*" => String::new(),
        host => format!(" from {host}"),
    };
    format!(
        "{} {verb} {} {} {name}{from}",
        binding.principal,
        binding.operation.word(),
        binding.resource.word(),
    )
}
