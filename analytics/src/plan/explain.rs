//! The plan as text, with a budget of its state.

use std::fmt::Write;

use super::{AggregateCall, ColumnSource, Cut, JoinKind, Node, Plan};
use crate::parse::print_duration;
use crate::syntax::Emit;

/// Group counts for which the state is estimated.
const GROUP_EXAMPLES: [u64; 3] = [100, 10_000, 1_000_000];

/// The plan as indented text: what is read, how columns were typed, what is
/// kept, and how much memory that takes per group.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    let emit = match plan.emit {
        Emit::Final => "one final row per window",
        Emit::Changes => "a row for each change",
        Emit::OnChange => "the final row if it differs from the last one of its key",
    };
    let shown = plan.output.len() - plan.hidden;
    let _ = writeln!(text, "query {:016x}: {emit}", plan.identity);
    for field in &plan.output[..shown] {
        let json = if field.json {
            " (json as it stands)"
        } else {
            ""
        };
        let _ = writeln!(text, "  {} {}{json}", field.name, field.data_type);
    }
    node(plan, &plan.root, 0, &mut text);
    for alert in &plan.alerts {
        let _ = writeln!(
            text,
            "alert {} ({}): when {} for {}, clear when {} for {}, suppress {}",
            alert.name,
            alert.severity,
            alert.when,
            print_duration(alert.hold_ms),
            alert.clear,
            print_duration(alert.clear_hold_ms),
            print_duration(alert.suppress_ms),
        );
    }
    text
}

fn node(plan: &Plan, node_: &Node, depth: usize, text: &mut String) {
    let pad = "  ".repeat(depth);
    match node_ {
        Node::Scan(index) => scan(plan, *index, &pad, text),
        Node::Filter { input, predicate } => {
            let _ = writeln!(text, "{pad}filter {predicate}");
            node(plan, input, depth + 1, text);
        }
        Node::Project { input, exprs } => {
            let exprs: Vec<String> = exprs.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "{pad}compute {}", exprs.join(", "));
            node(plan, input, depth + 1, text);
        }
        Node::Analytic { input, calls } => {
            for call in calls {
                let _ = writeln!(
                    text,
                    "{pad}per key {:?}: {}; one state per key",
                    call.keys,
                    print_call(&call.call)
                );
            }
            node(plan, input, depth + 1, text);
        }
        Node::Window {
            input,
            cut,
            keys,
            aggregates,
            per_key,
            ..
        } => {
            let _ = writeln!(text, "{pad}{}", print_cut(cut));
            if per_key.is_some() {
                let _ = writeln!(text, "{pad}  a watermark per key");
            }
            let _ = writeln!(text, "{pad}  group by {keys:?}");
            for aggregate in aggregates {
                let _ = writeln!(text, "{pad}  {}", print_call(aggregate));
            }
            budget(cut, aggregates, &pad, text);
            node(plan, input, depth + 1, text);
        }
        Node::Join { left, right, join } => {
            let kind = match join.kind {
                JoinKind::Latest => "the latest right row per key".to_owned(),
                JoinKind::AsOf => "the newest right row that is not newer".to_owned(),
                JoinKind::Interval { lower, upper } => format!(
                    "right time minus left time from {} to {}",
                    print_duration(lower),
                    print_duration(upper)
                ),
            };
            let _ = writeln!(
                text,
                "{pad}join {:?} = {:?}: {kind}",
                join.left_keys, join.right_keys
            );
            node(plan, left, depth + 1, text);
            node(plan, right, depth + 1, text);
        }
        Node::Union(nodes) => {
            let _ = writeln!(text, "{pad}union all");
            for inner in nodes {
                node(plan, inner, depth + 1, text);
            }
        }
    }
}

fn scan(plan: &Plan, index: usize, pad: &str, text: &mut String) {
    let scan = &plan.scans[index];
    let _ = writeln!(
        text,
        "{pad}read {} from {:?} topics {:?}, {:?}",
        scan.name, scan.filters, scan.topics, scan.format
    );
    let watermark = &scan.watermark;
    let _ = writeln!(
        text,
        "{pad}  event time {}, watermark {} behind, idle after {}, at most {} ahead of record time",
        scan.time
            .map_or("record_time", |time| scan.columns[time].name.as_str()),
        print_duration(watermark.delay_ms),
        print_duration(watermark.idle_ms),
        print_duration(watermark.ahead_ms),
    );
    for (place, column) in scan.columns.iter().enumerate() {
        let how = match column.source {
            ColumnSource::Payload(_) => "from the payload",
            ColumnSource::PayloadJson(_) => "json of the payload",
            ColumnSource::Whole => "the payload",
            _ => "of the record",
        };
        let _ = writeln!(
            text,
            "{pad}  #{place} {} {}, {how}",
            column.name, column.data_type
        );
    }
}

fn print_call(call: &AggregateCall) -> String {
    let arguments: Vec<String> = call.arguments.iter().map(ToString::to_string).collect();
    format!("{}({})", call.function.name, arguments.join(", "))
}

fn print_cut(cut: &Cut) -> String {
    match cut {
        Cut::Time {
            size,
            slide,
            offset,
            zone,
        } => {
            let mut text = if size == slide {
                format!("windows of {}", print_duration(*size))
            } else {
                format!(
                    "windows of {} every {}",
                    print_duration(*size),
                    print_duration(*slide)
                )
            };
            if *offset != 0 {
                let _ = write!(text, " shifted by {}", print_duration(*offset));
            }
            if let Some(zone) = zone {
                let _ = write!(text, " in {zone}");
            }
            text
        }
        Cut::Session { gap, max } => format!(
            "sessions that end after {} of silence{}",
            print_duration(*gap),
            max.map_or(String::new(), |max| format!(
                ", at most {}",
                print_duration(max)
            ))
        ),
        Cut::Count { rows, step } if rows == step => format!("windows of {rows} rows"),
        Cut::Count { rows, step } => format!("windows of {rows} rows every {step}"),
        Cut::State { open, close: None } => format!("a window for each value of {open}"),
        Cut::State {
            open,
            close: Some(close),
        } => format!("windows from {open} to {close}"),
    }
}

fn budget(cut: &Cut, aggregates: &[AggregateCall], pad: &str, text: &mut String) {
    let slot = crate::operators::slot_bytes(aggregates) as u64;
    let copies = match cut {
        Cut::Time { size, slide, .. } if size != slide => {
            let slice = crate::operators::slice_ms(*size, *slide);
            // Open slices, suffixes of the block before and the prefix.
            2 * (size / slice) as u64 + 2
        }
        Cut::Count { rows, step } if rows != step => (rows / step) as u64 + 1,
        _ => 2,
    };
    let sizes: Vec<String> = GROUP_EXAMPLES
        .iter()
        .map(|groups| {
            format!(
                "{groups} groups {} KiB",
                (groups * slot * copies).div_ceil(1024)
            )
        })
        .collect();
    let _ = writeln!(
        text,
        "{pad}  state: about {slot} bytes per group and slice, {copies} slices: {}",
        sizes.join(", ")
    );
}
