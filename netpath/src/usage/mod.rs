//! What has been counted for NICs, networks, accounts and public addresses: totals, the difference of two of them, and samples
//! of earlier ones.

mod samples;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    hash::Hash,
    path::Path,
    time::SystemTime,
};

use netpath_common::maps::{Counters, PUBLIC_SIDE, name_kind, shape};
use serde::{Deserialize, Serialize};

pub(crate) use self::samples::Samples;
use crate::{
    applied::Applied,
    datapath::{DatapathError, add},
    error::Error,
    when,
};

/// Adds a sample of what is counted under `root` to those in `state_dir`, if one is due and anything is applied there. That it
/// cannot be is no failure of what is being done.
pub(crate) fn sample(state_dir: &Path, root: &Path) {
    let samples = Samples::of(state_dir, root);
    if !samples.is_due() {
        return;
    }
    match Applied::open(root).and_then(|applied| Usage::read(&applied)) {
        Ok(usage) => samples.add(&usage),
        Err(Error::Datapath(DatapathError::NothingApplied { .. })) => {}
        Err(error) => tracing::warn!("counters cannot be read for a sample: {error}"),
    }
}

/// Everything that is counted, at a time. This is what `show usage -o json` prints, and what samples are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// When it was read.
    pub(crate) at: String,
    /// The host that counted; `None` in readings of builds that did not say.
    #[serde(default)]
    pub(crate) host: Option<String>,
    /// When counting began on this host: when its maps were made.
    pub(crate) counted_since: String,
    /// Since when the numbers count, where that was asked for.
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// Of what alone it is; `None` of everything, and in documents of builds that did not say.
    #[serde(default)]
    pub(crate) filter: Option<Filter>,
    pub(crate) nics: Vec<Nic>,
    pub(crate) networks: Vec<Network>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) addresses: Vec<Address>,
}

/// What is wanted of a reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// This network alone.
    pub(crate) network: Option<String>,
    /// What belongs to this account alone.
    pub(crate) account: Option<String>,
}

impl Filter {
    /// `None` where everything is wanted.
    pub(crate) fn of(network: Option<&str>, account: Option<&str>) -> Option<Self> {
        let filter = Self { network: network.map(str::to_owned), account: account.map(str::to_owned) };
        (network.is_some() || account.is_some()).then_some(filter)
    }
}

impl fmt::Display for Filter {
    /// As it is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = [("--network", &self.network), ("--account", &self.account)];
        let given = options.into_iter().filter_map(|(option, name)| Some(format!("{option} {}", name.as_ref()?)));
        f.write_str(&given.collect::<Vec<_>>().join(" "))
    }
}

/// Frames on the guest's side, without the frame check sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) from_guest_packets: u64,
    pub(crate) from_guest_bytes: u64,
    pub(crate) to_guest_packets: u64,
    pub(crate) to_guest_bytes: u64,
}

impl From<Counters> for Count {
    fn from(counters: Counters) -> Self {
        let Counters { from_guest_packets, from_guest_bytes, to_guest_packets, to_guest_bytes, .. } = counters;
        Self { from_guest_packets, from_guest_bytes, to_guest_packets, to_guest_bytes }
    }
}

impl Count {
    /// What has come since `before`; all of it, where counting began anew in between.
    fn since(self, before: Self) -> Self {
        let difference = || {
            Some(Self {
                from_guest_packets: self.from_guest_packets.checked_sub(before.from_guest_packets)?,
                from_guest_bytes: self.from_guest_bytes.checked_sub(before.from_guest_bytes)?,
                to_guest_packets: self.to_guest_packets.checked_sub(before.to_guest_packets)?,
                to_guest_bytes: self.to_guest_bytes.checked_sub(before.to_guest_bytes)?,
            })
        };
        difference().unwrap_or(self)
    }
}

/// Declares a kind of thing that is counted: what it is called by, what may change about it, and its count.
macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),+ $(; $more:ident: $other:ty)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)+
            $(pub(crate) $more: $other,)?
            #[serde(flatten)]
            pub(crate) count: Count,
        }

        impl Counted for $name {
            type Key = ($($type,)+);

            fn key(&self) -> Self::Key {
                ($(self.$field.clone(),)+)
            }

            fn count(&mut self) -> &mut Count {
                &mut self.count
            }
        }
    )+};
}

/// What has a name and a count.
trait Counted {
    type Key: Eq + Hash;

    fn key(&self) -> Self::Key;

    fn count(&mut self) -> &mut Count;
}

counted! {
    /// A guest port.
    Nic { network: String, instance: String, mac: String }
    /// A network on this host: its NICs, and those that it had.
    Network { network: String; account: Option<String> }
    /// An account on this host: its networks, and those that it had.
    Account { account: String }
    /// A public address, on the host where it lives.
    Address { link: String, address: String, network: String }
}

fn subtract<T: Counted>(now: &mut [T], before: Vec<T>) {
    let before: HashMap<T::Key, Count> = before.into_iter().map(|mut row| (row.key(), *row.count())).collect();
    for row in now {
        if let Some(before) = before.get(&row.key()) {
            *row.count() = row.count().since(*before);
        }
    }
}

impl Usage {
    /// Reads all counters.
    pub(crate) fn read(applied: &Applied) -> Result<Self, Error> {
        let Applied { tables, names, .. } = applied;
        let (mut nics, mut totals) = (Vec::new(), BTreeMap::new());
        for (index, network) in names.all(name_kind::NETWORK) {
            totals.insert(network, (index, tables.retired.get(index)?.unwrap_or_default()));
        }
        let ports = names.all(name_kind::PORT);
        let counted = tables.counters.first_sums(ports.last().map_or(0, |(slot, _)| *slot as usize + 1))?;
        for (slot, name) in ports {
            let mut parts = name.splitn(3, '/');
            let mut part = || parts.next().unwrap_or_default();
            let (network, instance, mac) = (part(), part().to_owned(), part().to_owned());
            let counters = counted.get(slot as usize).copied().unwrap_or_default();
            if let Some((_, total)) = totals.get_mut(network) {
                *total = add(total, &counters);
            }
            nics.push(Nic { network: network.to_owned(), instance, mac, count: counters.into() });
        }
        let owners: HashMap<u32, &str> = names.all(name_kind::OWNER).into_iter().collect();
        let mut accounts = BTreeMap::new();
        for (index, account) in names.all(name_kind::ACCOUNT) {
            accounts.insert(account, tables.retired_account.get(index)?.unwrap_or_default());
        }
        for (index, counters) in totals.values() {
            if let Some(total) = owners.get(index).and_then(|owner| accounts.get_mut(owner)) {
                *total = add(total, counters);
            }
        }
        let network = |(network, (index, counters)): (&str, (u32, Counters))| Network {
            network: network.to_owned(),
            account: owners.get(&index).map(|owner| (*owner).to_owned()),
            count: counters.into(),
        };
        let account =
            |(account, counters): (&str, Counters)| Account { account: account.into(), count: counters.into() };
        nics.sort_by(|a, b| (&a.network, &a.instance).cmp(&(&b.network, &b.instance)));
        Ok(Self {
            at: when::text(SystemTime::now()),
            host: names.host().map(str::to_owned),
            counted_since: when::text(counted_since(applied)?),
            since: None,
            filter: None,
            nics,
            networks: totals.into_iter().map(network).collect(),
            accounts: accounts.into_iter().map(account).collect(),
            addresses: addresses(applied)?,
        })
    }

    /// The same since another reading of this host; all of it, where the maps were made anew in between.
    pub(crate) fn since(mut self, before: Self) -> Self {
        self.since = Some(before.at);
        if before.counted_since != self.counted_since {
            return self;
        }
        subtract(&mut self.nics, before.nics);
        subtract(&mut self.networks, before.networks);
        subtract(&mut self.accounts, before.accounts);
        subtract(&mut self.addresses, before.addresses);
        self
    }

    /// Why what has come since this reading cannot be told as `now` is asked for: of what `wanted` says.
    pub(crate) fn baseline_problem(&self, now: &Self, wanted: Option<&Filter>) -> Option<String> {
        if let Some((its, this)) = self.host.as_deref().zip(now.host.as_deref()).filter(|(its, this)| its != this) {
            return Some(format!("it is host {its}'s, and this is {this}"));
        }
        if let Some(since) = &self.since {
            return Some(format!(
                "it is a difference itself, of what came from {since} to {}: keep whole readings, `netpath show usage -o json` \
                 without --since, and name one of those",
                self.at
            ));
        }
        let filter = self.filter.as_ref().filter(|filter| wanted != Some(filter))?;
        Some(format!(
            "it has only what `{filter}` leaves, so that all else would count from its beginning: ask with {filter}, or keep \
             whole readings, `netpath show usage -o json` without it, and name one of those"
        ))
    }

    /// Leaves what is of these only, and says so.
    pub(crate) fn only(&mut self, filter: Option<Filter>) {
        let Some(Filter { network, account }) = &filter else { return };
        let (network, account) = (network.as_deref(), account.as_deref());
        let owner: HashMap<String, Option<String>> =
            self.networks.iter().map(|row| (row.network.clone(), row.account.clone())).collect();
        let is_wanted = |name: &str| {
            network.is_none_or(|only| only == name)
                && account.is_none_or(|only| owner.get(name).is_some_and(|owner| owner.as_deref() == Some(only)))
        };
        let owned = network.map(|network| owner.get(network).cloned().flatten());
        self.nics.retain(|row| is_wanted(&row.network));
        self.networks.retain(|row| is_wanted(&row.network));
        self.addresses.retain(|row| is_wanted(&row.network));
        self.accounts.retain(|row| {
            account.is_none_or(|only| only == row.account)
                && owned.as_ref().is_none_or(|owner| owner.as_ref() == Some(&row.account))
        });
        self.filter = filter;
    }
}

/// The public addresses that live here.
fn addresses(applied: &Applied) -> Result<Vec<Address>, Error> {
    let Applied { tables, names, .. } = applied;
    let mut addresses = Vec::new();
    for (key, row) in tables.public_address.rows()? {
        if row.index == 0 {
            continue;
        }
        addresses.push(Address {
            link: names.public_link(key.side & !PUBLIC_SIDE),
            address: std::net::Ipv4Addr::from(key.address).to_string(),
            network: names.network(row.network),
            count: tables.public_counters.sum(row.index.into())?.into(),
        });
    }
    addresses.sort_by(|a, b| (&a.link, &a.address).cmp(&(&b.link, &b.address)));
    Ok(addresses)
}

/// When the counters were made: they outlive every apply and every upgrade.
fn counted_since(applied: &Applied) -> Result<SystemTime, Error> {
    let path = applied.root.map(shape::COUNTERS.name);
    let made = fs::metadata(&path).and_then(|data| data.modified());
    made.map_err(|source| Error::State { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, bytes: u64) -> Account {
        Account { account: name.into(), count: Count { from_guest_bytes: bytes, ..Count::default() } }
    }

    #[test]
    fn a_difference_is_what_came_since_and_all_of_what_is_new_or_was_counted_anew() {
        let before = Usage { at: "then".into(), accounts: vec![account("a", 70), account("b", 9)], ..Usage::default() };
        let now = [account("a", 100), account("b", 3), account("c", 5)].to_vec();
        let since = Usage { at: "now".into(), accounts: now, ..Usage::default() }.since(before);
        assert_eq!((since.at.as_str(), since.since.as_deref()), ("now", Some("then")));
        assert_eq!(since.accounts, [account("a", 30), account("b", 3), account("c", 5)]);
    }

    #[test]
    fn nothing_is_subtracted_where_all_counting_began_anew_in_between() {
        let of = |since: &str, bytes| Usage {
            counted_since: since.into(),
            accounts: vec![account("a", bytes)],
            ..Usage::default()
        };
        assert_eq!(of("noon", 100).since(of("morning", 70)).accounts, [account("a", 100)]);
        assert_eq!(of("noon", 100).since(of("noon", 70)).accounts, [account("a", 30)]);
    }

    #[test]
    fn a_network_that_comes_to_another_account_does_not_bring_its_history() {
        let of = |owner: &str, bytes| Usage {
            networks: vec![Network {
                network: "web".into(),
                account: Some(owner.into()),
                count: Count { from_guest_bytes: bytes, ..Count::default() },
            }],
            ..Usage::default()
        };
        assert_eq!(of("globex", 100).since(of("acme", 70)).networks, of("globex", 30).networks);
    }

    #[test]
    fn a_network_shows_its_own_and_its_account() {
        let network = |name: &str, owner: &str| Network {
            network: name.into(),
            account: Some(owner.into()),
            count: Count::default(),
        };
        let all = Usage {
            networks: vec![network("web", "a"), network("db", "a"), network("app", "b")],
            accounts: vec![account("a", 1), account("b", 2)],
            ..Usage::default()
        };
        let mut one = all.clone();
        one.only(Filter::of(Some("web"), None));
        assert_eq!((one.networks, one.accounts), (vec![network("web", "a")], vec![account("a", 1)]));
        let mut owned = all;
        owned.only(Filter::of(None, Some("a")));
        assert_eq!((owned.networks.len(), owned.accounts), (2, vec![account("a", 1)]));
    }

    #[test]
    fn a_difference_and_another_hosts_reading_are_nothing_to_count_from() {
        let of = |host: &str| Usage { host: Some(host.into()), at: "noon".into(), ..Usage::default() };
        let now = of("kvm1");
        assert_eq!(of("kvm1").baseline_problem(&now, None), None);
        assert_eq!(of("kvm2").baseline_problem(&now, None).unwrap(), "it is host kvm2's, and this is kvm1");
        let difference = of("kvm1").since(Usage { at: "morning".into(), ..Usage::default() });
        let why = difference.baseline_problem(&now, None).unwrap();
        assert!(why.starts_with("it is a difference itself, of what came from morning to noon"), "{why}");
        assert!(why.contains("`netpath show usage -o json` without --since"), "{why}");
    }

    #[test]
    fn a_reading_of_a_part_is_counted_from_for_the_same_part_only() {
        let mut part = Usage { accounts: vec![account("acme", 1), account("globex", 2)], ..Usage::default() };
        part.only(Filter::of(None, Some("acme")));
        let part: Usage = serde_json::from_value(serde_json::to_value(&part).unwrap()).unwrap();
        let why = |network, account| part.baseline_problem(&Usage::default(), Filter::of(network, account).as_ref());
        assert_eq!(why(None, Some("acme")), None);
        for (network, account) in [(None, None), (None, Some("globex")), (Some("web"), Some("acme"))] {
            let why = why(network, account).unwrap();
            assert!(why.starts_with("it has only what `--account acme` leaves"), "{why}");
        }
    }

    #[test]
    fn a_document_that_says_nothing_of_a_filter_is_of_everything() {
        let mut whole = serde_json::to_value(Usage::default()).unwrap();
        assert_eq!(whole["filter"], serde_json::Value::Null);
        whole.as_object_mut().unwrap().remove("filter");
        let older: Usage = serde_json::from_value(whole).unwrap();
        assert_eq!(older.baseline_problem(&Usage::default(), Filter::of(Some("web"), None).as_ref()), None);
    }
}
