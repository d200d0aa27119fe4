//! The web console in a real browser.

use super::{Scenario, Stage, install};
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

/// The only scenario: all pages one after another.
pub fn scenario() -> Scenario {
    Scenario::new("console", pages)
}

/// Values move, a chart draws and zooms, an alert is acknowledged, and no page
/// has an error in the console of the browser. Its pictures stay in
/// `console-pictures` of the target directory.
fn pages(stage: &Stage) -> Outcome {
    install::browser()?;
    let mut spec = Spec::gateway(&stage.program, "console", stage.work.path());
    std::fs::create_dir_all(&spec.work_dir).during(spec.work_dir.display())?;
    let file = spec.work_dir.join("hot.sql");
    std::fs::write(&file, HOT).during(file.display())?;
    spec.sections.push_str(SECTIONS);
    let node = Node::start(&spec)?;
    let http = node.ports.http.to_string();
    let pictures = install::target_directory().join("console-pictures");
    let pictures = pictures.display().to_string();
    stage.script("console.py", "console", &node, &[&http, &pictures])
}
