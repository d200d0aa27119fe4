//! The web console in a real browser.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Scenario, Stage, finish, install};
use crate::failure::{During, Outcome};
use crate::node::{Node, Spec};

/// Averages of the plant, and an alert for what is hot.
const HOT: &str = "\
SELECT path, value FROM \"plant/#\";
CREATE ALERT hot WHEN value > 70 FOR '2 s' CLEAR WHEN value < 60
  SEVERITY critical MESSAGE 'motor too hot'
";

/// A meter that does not answer: devices show their last error.
const SECTIONS: &str = "\
[[query]]
name = \"hot\"
file = \"hot.sql\"
[[modbus]]
name = \"meter\"
endpoint = \"tcp://127.0.0.1:1\"
tags = [ { name = \"power\", register = \"holding\", address = 0, type = \"FLOAT32\" } ]
";

/// One user publishes, the other one looks and acknowledges.
const PERMISSIONS: &str = "\
[[permission]]
user = \"plant\"
allow = [\"write\"]
paths = [\"plant/#\"]
[[permission]]
user = \"panel\"
allow = [\"read\", \"write\"]
paths = [\"plant/#\", \"forebay/alerts/#\"]
";

/// The time that a password takes, on a machine that is busy.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// All pages one after another, and the login.
pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("console", pages),
        Scenario::new("console-login", login),
    ]
}

/// Values move, a chart draws and zooms, an alert is acknowledged, and no page
/// has an error in the console of the browser. Its pictures stay in
/// `console-pictures` of the target directory.
fn pages(stage: &Stage) -> Outcome {
    let spec = spec(stage, "console")?;
    look(stage, &spec, "console")
}

/// Without a login one may look on the node's own machine and change nothing; a
/// wrong password is refused, and whoever logs in signs with that name.
fn login(stage: &Stage) -> Outcome {
    let mut spec = spec(stage, "console-login")?;
    spec.sections.push_str(PERMISSIONS);
    let users = spec.data_dir.join("users");
    std::fs::create_dir_all(&spec.data_dir).during(users.display())?;
    for (name, password) in [("plant", "of the plant"), ("panel", "of the panel")] {
        let file = spec.work_dir.join(name);
        std::fs::write(&file, password).during(file.display())?;
        let mut add = Command::new(&stage.program);
        add.args(["user", "add", name, "--password-file"])
            .arg(&file)
            .arg("--users-file")
            .arg(&users);
        finish(&mut add, USER_TIMEOUT)?;
    }
    look(stage, &spec, "login")
}

fn spec(stage: &Stage, name: &str) -> Outcome<Spec> {
    let mut spec = Spec::gateway(&stage.program, name, stage.work.path());
    std::fs::create_dir_all(&spec.work_dir).during(spec.work_dir.display())?;
    let file = spec.work_dir.join("hot.sql");
    std::fs::write(&file, HOT).during(file.display())?;
    spec.sections.push_str(SECTIONS);
    Ok(spec)
}

fn look(stage: &Stage, spec: &Spec, function: &str) -> Outcome {
    install::browser()?;
    let node = Node::start(spec)?;
    let http = node.ports.http.to_string();
    let pictures: PathBuf = install::target_directory().join("console-pictures");
    let pictures = pictures.display().to_string();
    stage.script("console.py", function, &node, &[&http, &pictures])
}
