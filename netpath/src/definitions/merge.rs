//! Several documents that are one: the files of a folder.
//!
//! Lists of the same field are put one after the other, in the order of the files' names; a value that is no list may be
//! given in several files if it is the same in all. It is the fields of the whole that are merged, and not those within
//! them: a network is in one file.

use std::rc::Rc;

use super::{
    findings::Findings,
    node::{Key, Kind, Node, WEIGHT_MAX},
};

/// A field of the whole document, and its values in the files that have it.
type Field<'a> = (Key<'a>, Vec<Rc<Node<'a>>>);

/// The one document that `roots` are together; `None` where there is nothing in any of them.
pub(super) fn merge<'a>(roots: &[Rc<Node<'a>>], findings: &mut Findings) -> Option<Rc<Node<'a>>> {
    let at = roots.first()?.at;
    if roots.iter().fold(0_u32, |sum, root| sum.saturating_add(root.weight())) > WEIGHT_MAX {
        let problem = format_args!("the files unfold to more than {WEIGHT_MAX} values together");
        findings.add(at, "*", problem, "write the values out instead of aliases of aliases");
        return None;
    }
    let mut whole: Vec<Field<'a>> = Vec::new();
    for root in roots {
        let Kind::Map(fields) = &root.kind else {
            let expected = "begin each file with a field of the zone, such as `networks:`";
            findings.add(root.at, root.quote(), "not the fields of a zone", expected);
            continue;
        };
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match whole.iter_mut().find(|(known, _)| known.name == key.name) {
                Some((_, values)) => values.push(Rc::clone(value)),
                None => whole.push((Key { at: key.at, name: key.name.clone() }, vec![Rc::clone(value)])),
            }
        }
    }
    let fields = whole.into_iter().filter_map(|(key, values)| {
        let value = join(&key, &values, findings)?;
        Some((key, value))
    });
    let fields = fields.collect();
    Some(Node::joined(at, Kind::Map(fields)))
}

/// The value of a field that these files have.
fn join<'a>(key: &Key<'a>, values: &[Rc<Node<'a>>], findings: &mut Findings) -> Option<Rc<Node<'a>>> {
    let (first, others) = values.split_first()?;
    if others.is_empty() {
        return Some(Rc::clone(first));
    }
    let mut items = Vec::new();
    for value in values {
        match (&first.kind, &value.kind) {
            (Kind::List(_), Kind::List(more)) => items.extend(more.iter().map(Rc::clone)),
            (Kind::Scalar { text, .. }, Kind::Scalar { text: other, .. }) if text == other => {}
            _ => {
                let problem = format!("`{}` is {} in {}", key.name, first.quote(), findings.line(first.at));
                findings.add(value.at, value.quote(), problem, "give it once, or the same in every file");
            }
        }
    }
    Some(if items.is_empty() { Rc::clone(first) } else { Node::joined(first.at, Kind::List(items)) })
}
