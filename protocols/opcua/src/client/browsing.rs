//! Finding nodes by their browse path.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use opcua::client::Session;
use opcua::types::{
    BrowseDescription, BrowseDirection, BrowseResult, BrowseResultMaskFlags, ByteString, NodeClass,
    NodeClassMask, NodeId, ObjectId, ReferenceDescription, ReferenceTypeId, StatusCode,
    VariableTypeId,
};

use crate::batch::Batch;
use crate::names;
use crate::pattern::Pattern;

/// References of one node in one answer; the rest comes with continuation
/// points.
const REFERENCES_PER_NODE: u32 = 1_000;

/// Nodes that are looked at for one node that is taken, and a floor. A pattern
/// that means ten nodes of a million must end.
const VISITED_PER_NODE: usize = 20;
const VISITED_MIN: usize = 20_000;

/// A variable that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Browse names from Objects on, as levels of a path.
    pub path: String,
    /// Which one it is.
    pub node: NodeId,
}

/// What was found, and whether that is all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The variables, in the order of the walk.
    pub found: Vec<Found>,
    /// Whether a limit ended the walk.
    pub is_cut: bool,
}

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) include: &'a [Pattern],
    pub(crate) exclude: &'a [Pattern],
    pub(crate) max_nodes: usize,
    pub(crate) max_depth: usize,
}

struct Folder {
    node: NodeId,
    levels: Vec<String>,
}

impl Walk<'_> {
    fn means(&self, path: &[&str]) -> bool {
        self.include.iter().any(|pattern| pattern.matches(path))
            && !self.exclude.iter().any(|pattern| pattern.matches(path))
    }

    fn goes_below(&self, path: &[&str]) -> bool {
        path.len() <= self.max_depth
            && self
                .include
                .iter()
                .any(|pattern| pattern.reaches_below(path))
            && !self.exclude.iter().any(|pattern| pattern.matches(path))
    }
}

/// Walks from the Objects folder along hierarchical references. Properties
/// (units, ranges) are left out: they describe variables.
///
/// # Errors
/// The status of the request that failed.
pub(crate) async fn walk(
    session: &Session,
    walk: &Walk<'_>,
    batch: &mut Batch,
) -> Result<Findings, StatusCode> {
    let mut findings = Findings::default();
    let mut seen: HashSet<NodeId> = HashSet::new();
    let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
    let visited_max = VISITED_MIN.max(walk.max_nodes.saturating_mul(VISITED_PER_NODE));
    let root = NodeId::from(ObjectId::ObjectsFolder);
    seen.insert(root.clone());
    let mut queue = VecDeque::from([Folder {
        node: root,
        levels: vec!["Objects".to_owned()],
    }]);
    while !queue.is_empty() {
        let count = queue.len().min(batch.size());
        let folders: Vec<Folder> = queue.drain(..count).collect();
        let children = match children(session, &folders).await {
            Ok(children) => children,
            Err(status) if batch.handle_failure(count, status) => {
                for folder in folders.into_iter().rev() {
                    queue.push_front(folder);
                }
                continue;
            }
            Err(status) => return Err(status),
        };
        for (folder, references) in folders.iter().zip(children) {
            for reference in references {
                let node = reference.node_id.node_id;
                let is_property = reference.type_definition.node_id == VariableTypeId::PropertyType;
                if is_property || reference.node_id.server_index != 0 || !seen.insert(node.clone())
                {
                    continue;
                }
                if seen.len() > visited_max {
                    findings.is_cut = true;
                    return Ok(findings);
                }
                let mut levels = folder.levels.clone();
                levels.push(names::level(reference.browse_name.name.as_ref()));
                let path: Vec<&str> = levels.iter().map(String::as_str).collect();
                if reference.node_class == NodeClass::Variable && walk.means(&path) {
                    if findings.found.len() == walk.max_nodes {
                        findings.is_cut = true;
                        return Ok(findings);
                    }
                    let path = names::unique(levels.join("/"), |path| taken.contains(path));
                    taken.insert(path.as_str().into());
                    findings.found.push(Found {
                        path,
                        node: node.clone(),
                    });
                }
                if walk.goes_below(&path) {
                    queue.push_back(Folder { node, levels });
                }
            }
        }
    }
    Ok(findings)
}

/// The references of each folder.
async fn children(
    session: &Session,
    folders: &[Folder],
) -> Result<Vec<Vec<ReferenceDescription>>, StatusCode> {
    let mask = BrowseResultMaskFlags::BrowseName
        | BrowseResultMaskFlags::NodeClass
        | BrowseResultMaskFlags::TypeDefinition;
    let asked: Vec<BrowseDescription> = folders
        .iter()
        .map(|folder| BrowseDescription {
            node_id: folder.node.clone(),
            browse_direction: BrowseDirection::Forward,
            reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
            include_subtypes: true,
            node_class_mask: (NodeClassMask::OBJECT | NodeClassMask::VARIABLE).bits(),
            result_mask: mask.bits(),
        })
        .collect();
    let answers = session.browse(&asked, REFERENCES_PER_NODE, None).await;
    let answers = answers.map_err(|error| error.status())?;
    if answers.len() != folders.len() {
        return Err(StatusCode::BadUnknownResponse);
    }
    let mut children: Vec<Vec<ReferenceDescription>> = vec![Vec::new(); folders.len()];
    let mut open = take(&mut children, (0..folders.len()).zip(answers));
    while !open.is_empty() {
        let points: Vec<ByteString> = open.iter().map(|(_, point)| point.clone()).collect();
        let answers = session.browse_next(false, &points).await;
        let answers = answers.map_err(|error| error.status())?;
        if answers.len() != points.len() {
            return Err(StatusCode::BadUnknownResponse);
        }
        let indexes: Vec<usize> = open.iter().map(|(index, _)| *index).collect();
        open = take(&mut children, indexes.into_iter().zip(answers));
    }
    Ok(children)
}

/// Takes answers over; returns what is to be continued. A node that cannot be
/// browsed has no children: servers hide nodes from users.
fn take(
    children: &mut [Vec<ReferenceDescription>],
    answers: impl Iterator<Item = (usize, BrowseResult)>,
) -> Vec<(usize, ByteString)> {
    let mut open = Vec::new();
    for (index, answer) in answers {
        let references = answer.references.unwrap_or_default();
        let has_more = !references.is_empty() && !answer.continuation_point.is_null_or_empty();
        children[index].extend(references);
        if has_more && answer.status_code.is_good() {
            open.push((index, answer.continuation_point));
        }
    }
    open
}
