//! The document, against what is in force.

use super::{
    Fault, Host,
    finding::{counted, listed},
    host::{Document, Pins},
};

pub(super) fn host_unknown(host: &Host) -> Vec<Fault> {
    let Some(Document::UnknownHost(known)) = &host.document else { return Vec::new() };
    let fault = Fault::error(host.object(), format!("the document has no such host; its hosts are {known}"))
        .because("the host has no part in it: its guests are in no definition")
        .mend("name the host that is meant with --host, or add it to `hosts`");
    vec![fault]
}

pub(super) fn document_unfit(host: &Host) -> Vec<Fault> {
    let Some(Document::Unfit(why)) = &host.document else { return Vec::new() };
    let fault = Fault::error(host.object(), why.clone())
        .because("the document cannot be applied here")
        .mend(format!("change what it names, then `{}`", host.apply));
    vec![fault]
}

pub(super) fn document_not_applied(host: &Host) -> Vec<Fault> {
    let (object, mend) = (host.object(), format!("`{}`", host.apply));
    match (&host.document, &host.pins) {
        (Some(Document::Compared { edits: 0, steps: 0 }), _) => Vec::new(),
        (Some(Document::Compared { .. }), Pins::Nothing) | (None, Pins::Nothing) => {
            let fault = Fault::note(object, "nothing is applied")
                .because("no guest of this host is on a network of netpath's")
                .mend(mend);
            vec![fault]
        }
        (Some(Document::Compared { edits, steps }), Pins::Applied { .. }) => {
            let differ: Vec<String> = [(*edits, "row"), (*steps, "step")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, one)| counted(count, one))
                .collect();
            let verb = if edits + steps == 1 { "differs" } else { "differ" };
            let found = format!("what is in force is not what the document says: {} {verb}", listed(&differ));
            let fault = Fault::warning(object, found)
                .because("changes that are believed to be in force are not, or somebody has changed what was")
                .mend(mend);
            vec![fault]
        }
        _ => Vec::new(),
    }
}
