//! `forebay user`: who may log in.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use forebay_access::password::PASSWORD_LEN_MAX;
use forebay_access::users::{TOKEN_LEN, User, Users, UsersError};
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use serde_json::json;

use super::{CommandError, print_json};
use crate::access::{FileError, chance, change, read};
use crate::config::Config;

/// Users are changed in the file that `access.users_file` names; a running node
/// takes it up within two seconds.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user
    #[command(after_help = "Examples:
  forebay user add mia                                  asks for the password
  forebay user add press-1 --password-file press-1.pw   the first line of a file
  openssl rand -base64 18 | tee pw | forebay user add press-1

What the user may do is said by [[permission]] sections of the configuration.")]
    Add(PasswordArgs),
    /// Change a password; connections that are open stay
    Passwd(PasswordArgs),
    /// Refuse logins of a user, by certificate as well, and close its connections
    Disable(NameArgs),
    /// Allow logins of a user again
    Enable(NameArgs),
    /// Remove a user with all tokens
    Remove(NameArgs),
    /// List users and tokens
    List(ListArgs),
    /// Make a token for a program that asks over HTTP, or remove it
    #[command(after_help = "Example:
  forebay user token mia grafana > token
  curl -H \"Authorization: Bearer $(cat token)\" http://127.0.0.1:8080/api/v1/status

The token is printed once. It may do what the user may do.")]
    Token(TokenArgs),
}

/// Which file.
#[derive(Debug, Args)]
struct FileArgs {
    /// The node's TOML file, which says where the users are
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "/etc/forebay/forebay.toml"
    )]
    config: PathBuf,
    /// The file of users itself
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    users_file: Option<PathBuf>,
}

/// A user with a password.
#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// The name: letters, digits and . _ @ -
    name: String,
    #[command(flatten)]
    file: FileArgs,
    /// Take the first line of this file for the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// A user.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The name
    name: String,
    #[command(flatten)]
    file: FileArgs,
}

/// Arguments of `user list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `user token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The user
    name: String,
    /// A name for the token, such as the program that has it
    token: String,
    #[command(flatten)]
    file: FileArgs,
    /// Remove the token
    #[arg(long)]
    remove: bool,
}

/// Why a user was not changed.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error("the system has no random numbers: {0}")]
    Chance(io::Error),
}

/// Runs one of them.
///
/// # Errors
/// The file cannot be read or written, or the change is not possible.
pub async fn execute(command: UserCommand) -> Result<bool, CommandError> {
    match command {
        UserCommand::Add(args) => {
            with_password(&args, "added", |users, user| users.add(&args.name, user))
        }
        UserCommand::Passwd(args) => with_password(&args, "has another password", |users, user| {
            users.change(&args.name, user)
        }),
        UserCommand::Disable(args) => one(&args, "disabled", |users, name| {
            users.set_disabled(name, true)
        }),
        UserCommand::Enable(args) => one(&args, "enabled", |users, name| {
            users.set_disabled(name, false)
        }),
        UserCommand::Remove(args) => one(&args, "removed", Users::remove),
        UserCommand::List(args) => list(&args),
        UserCommand::Token(args) => token(&args),
    }
}

fn with_password(
    args: &PasswordArgs,
    done: &str,
    apply: impl FnOnce(&mut Users, User) -> Result<(), UsersError>,
) -> Result<bool, CommandError> {
    let path = args.file.path()?;
    let password = password(args.password_file.as_deref())?;
    let salts = || Ok([chance()?, chance()?, chance()?]);
    let user = salts().map_err(ChangeError::Chance).and_then(|salts| {
        User::new(password.as_bytes(), salts).map_err(|error| UsersError::from(error).into())
    });
    let user = user.map_err(usage)?;
    let changed = change(&path, |users| apply(users, user).map_err(ChangeError::from));
    changed.map_err(usage)?;
    writeln!(io::stdout(), "{} {done}", args.name)?;
    Ok(true)
}

fn one(
    args: &NameArgs,
    done: &str,
    apply: impl FnOnce(&mut Users, &str) -> Result<(), UsersError>,
) -> Result<bool, CommandError> {
    let path = args.file.path()?;
    let changed = change(&path, |users| {
        apply(users, &args.name).map_err(ChangeError::from)
    });
    changed.map_err(usage)?;
    writeln!(io::stdout(), "{} {done}", args.name)?;
    Ok(true)
}

fn token(args: &TokenArgs) -> Result<bool, CommandError> {
    let path = args.file.path()?;
    if args.remove {
        let changed = change(&path, |users| {
            let removed = users.remove_token(&args.name, &args.token);
            removed.map_err(ChangeError::from)
        });
        changed.map_err(usage)?;
        writeln!(io::stdout(), "{} {} removed", args.name, args.token)?;
        return Ok(true);
    }
    let bytes = chance::<TOKEN_LEN>().map_err(|error| usage(ChangeError::Chance(error)))?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let changed = change(&path, |users| {
        let added = users.add_token(&args.name, &args.token, &token);
        added.map_err(ChangeError::from)
    });
    changed.map_err(usage)?;
    writeln!(io::stdout(), "{token}")?;
    Ok(true)
}

fn list(args: &ListArgs) -> Result<bool, CommandError> {
    let path = args.file.path()?;
    let users = read(&path).map_err(|error| usage(error.into()))?;
    let tokens_of = |user: &str| -> Vec<String> {
        let tokens = users.tokens().filter(|(owner, _)| *owner == user);
        tokens.map(|(_, name)| name.to_owned()).collect()
    };
    if args.json {
        let all = users.names().map(|(name, is_disabled)| {
            json!({"name": name, "disabled": is_disabled, "tokens": tokens_of(name)})
        });
        print_json(&all.collect::<Vec<_>>())?;
        return Ok(true);
    }
    let mut out = io::stdout().lock();
    for (name, is_disabled) in users.names() {
        let flag = if is_disabled { "  disabled" } else { "" };
        let tokens = match tokens_of(name).join(", ") {
            none if none.is_empty() => String::new(),
            names => format!("  tokens: {names}"),
        };
        writeln!(out, "{name}{flag}{tokens}")?;
    }
    if users.is_empty() {
        writeln!(out, "no users in {}", path.display())?;
    }
    Ok(true)
}

impl FileArgs {
    fn path(&self) -> Result<PathBuf, CommandError> {
        match &self.users_file {
            Some(path) => Ok(path.clone()),
            None => match Config::load(&self.config) {
                Ok(config) => Ok(config.access.users_file),
                Err(error) => Err(CommandError::Usage(error.to_string())),
            },
        }
    }
}

fn usage(error: ChangeError) -> CommandError {
    CommandError::Usage(error.to_string())
}

/// The first line of a file, of a pipe, or what a person types unseen, twice.
fn password(file: Option<&Path>) -> Result<String, CommandError> {
    let bad = |reason: String| CommandError::Usage(reason);
    if let Some(file) = file {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| bad(format!("{}: {error}", file.display())))?;
        return first_line(&text);
    }
    let stdin = io::stdin();
    if !isatty(&stdin) {
        let mut text = String::new();
        let limit = PASSWORD_LEN_MAX as u64 + 2;
        stdin.lock().take(limit).read_to_string(&mut text)?;
        return first_line(&text);
    }
    let typed = unseen("Password: ")?;
    match unseen("Once more: ")? == typed {
        true => first_line(&typed),
        false => Err(bad("the two are not the same".to_owned())),
    }
}

fn first_line(text: &str) -> Result<String, CommandError> {
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(CommandError::Usage(
            "expected a password, got nothing".to_owned(),
        )),
    }
}

fn unseen(question: &str) -> Result<String, CommandError> {
    let stdin = io::stdin();
    let mut err = io::stderr();
    write!(err, "{question}")?;
    err.flush()?;
    let before = tcgetattr(&stdin).map_err(io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(io::Error::from)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(io::Error::from)?;
    writeln!(err)?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
