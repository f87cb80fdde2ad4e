//! Changes to the text of a configuration file that leave comments, order and layout as they are.
//!
//! The result is not checked: the caller runs [`crate::config::parse`] on it before putting it in force.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use toml_edit::{
    Array, ArrayOfTables, Document, DocumentMut, InlineTable, Item, Table, TableLike, Value, value,
};

use crate::config::AdminState;

/// One change to the backends of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A further backend, at the end of the list.
    AddBackend {
        /// Name of the service.
        service: String,
        /// The backend's address.
        address: IpAddr,
        /// Its weight; 1 is the default and left out of the file.
        weight: u32,
    },
    /// The backend is no longer in the list. Comments above its header stay.
    RemoveBackend {
        /// Name of the service.
        service: String,
        /// The backend's address.
        address: IpAddr,
    },
    /// Another administrative state.
    SetState {
        /// Name of the service.
        service: String,
        /// The backend's address.
        address: IpAddr,
        /// The state it shall have.
        state: AdminState,
    },
    /// Another weight.
    SetWeight {
        /// Name of the service.
        service: String,
        /// The backend's address.
        address: IpAddr,
        /// The weight it shall have, 0 to 1000.
        weight: u32,
    },
}

impl Change {
    /// Service and backend that it is about.
    #[must_use]
    pub fn subject(&self) -> (&str, IpAddr) {
        match self {
            Self::SetState { service, address, .. }
            | Self::SetWeight { service, address, .. }
            | Self::AddBackend { service, address, .. }
            | Self::RemoveBackend { service, address } => (service, *address),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddBackend { service, address, weight } => {
                write!(f, "added backend {address} to service {service} with weight {weight}")
            }
            Self::RemoveBackend { service, address } => {
                write!(f, "removed backend {address} from service {service}")
            }
            Self::SetState { service, address, state } => {
                write!(f, "set backend {address} of service {service} to {}", state.word())
            }
            Self::SetWeight { service, address, weight } => {
                write!(f, "set the weight of backend {address} of service {service} to {weight}")
            }
        }
    }
}

impl Change {
    /// The change as it is asked for on the command line, without the program's name.
    #[must_use]
    pub fn command(&self) -> String {
        match self {
            Self::AddBackend { service, address, weight: 1 } => format!("backend add {service} {address}"),
            Self::AddBackend { service, address, weight } => {
                format!("backend add {service} {address} --weight {weight}")
            }
            Self::RemoveBackend { service, address } => format!("backend remove {service} {address}"),
            Self::SetState { service, address, state } => {
                let verb = match state {
                    AdminState::Enabled => "enable",
                    AdminState::Drain => "drain",
                    AdminState::Disabled => "disable",
                };
                format!("backend {verb} {service} {address}")
            }
            Self::SetWeight { service, address, weight } => {
                format!("backend weight {service} {address} {weight}")
            }
        }
    }
}

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file has no service of this name.
    #[error("there is no service \"{name}\"; known are: {}", listed(known))]
    UnknownService {
        /// The name that was asked for.
        name: String,
        /// The names in the file.
        known: Vec<String>,
    },
    /// The service has no such backend.
    #[error("service \"{service}\" has no backend {address}; it has: {}", listed(known))]
    UnknownBackend {
        /// Name of the service.
        service: String,
        /// The address that was asked for.
        address: IpAddr,
        /// The addresses in the file.
        known: Vec<String>,
    },
    /// The service has this backend.
    #[error("service \"{service}\" has backend {address} already; change its weight or state instead")]
    AlreadyPresent {
        /// Name of the service.
        service: String,
        /// The address that was to be added.
        address: IpAddr,
    },
    /// The text cannot be read at all.
    #[error("the configuration file cannot be read: {reason}; correct it and reload first")]
    Unreadable {
        /// What the parser said.
        reason: String,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Makes one change to the text of a configuration file and returns the new text.
///
/// # Errors
/// If the service or backend is not there, the backend to add is, or the text is not a configuration file.
pub fn apply(text: &str, change: &Change) -> Result<String, EditError> {
    match change {
        Change::AddBackend { service, address, weight } => {
            modify(text, service, |table| add(table, service, *address, *weight))
        }
        Change::RemoveBackend { service, address } => remove(text, service, *address),
        Change::SetState { service, address, state } => {
            let is_default = *state == AdminState::Enabled;
            modify(text, service, |table| {
                set(table, service, *address, "state", state.word().into(), is_default)
            })
        }
        Change::SetWeight { service, address, weight } => {
            let is_default = *weight == 1;
            modify(text, service, |table| {
                set(table, service, *address, "weight", i64::from(*weight).into(), is_default)
            })
        }
    }
}

fn modify(
    text: &str,
    service: &str,
    change: impl FnOnce(&mut dyn TableLike) -> Result<(), EditError>,
) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(unreadable)?;
    let names = document.get("service").map(names).unwrap_or_default();
    let services = document.get_mut("service").map(tables_mut).unwrap_or_default();
    let found = services.into_iter().find(|table| name_of(&**table) == Some(service));
    change(found.ok_or_else(|| EditError::UnknownService { name: service.to_owned(), known: names })?)?;
    Ok(document.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn unreadable(error: toml_edit::TomlError) -> EditError {
    EditError::Unreadable { reason: error.to_string().trim().replace('\n', " ") }
}

/// All tables of a list, written as `[[list]]` or as `list = [{ … }]`.
fn tables(item: &Item) -> Vec<&dyn TableLike> {
    match item {
        Item::ArrayOfTables(list) => list.iter().map(|table| table as &dyn TableLike).collect(),
        Item::Value(Value::Array(list)) => {
            list.iter().filter_map(Value::as_inline_table).map(|table| table as &dyn TableLike).collect()
        }
        _ => Vec::new(),
    }
}

/// As [`tables`], to be changed.
fn tables_mut(item: &mut Item) -> Vec<&mut dyn TableLike> {
    match item {
        Item::ArrayOfTables(list) => list.iter_mut().map(|table| table as &mut dyn TableLike).collect(),
        Item::Value(Value::Array(list)) => list
            .iter_mut()
            .filter_map(Value::as_inline_table_mut)
            .map(|table| table as &mut dyn TableLike)
            .collect(),
        _ => Vec::new(),
    }
}

fn name_of(table: &dyn TableLike) -> Option<&str> {
    table.get("name").and_then(Item::as_str)
}

fn names(services: &Item) -> Vec<String> {
    tables(services).into_iter().filter_map(name_of).map(str::to_owned).collect()
}

/// Whether the table is that of the backend; addresses are compared by value, not by spelling.
fn is_backend(table: &dyn TableLike, address: IpAddr) -> bool {
    let written = table.get("address").and_then(Item::as_str);
    written.and_then(|text| text.parse().ok()) == Some(address)
}

/// Position of the backend in its list.
fn position(service: &dyn TableLike, name: &str, address: IpAddr) -> Result<usize, EditError> {
    let backends = service.get("backend").map(tables).unwrap_or_default();
    backends.iter().position(|table| is_backend(*table, address)).ok_or_else(|| EditError::UnknownBackend {
        service: name.to_owned(),
        address,
        known: backends
            .iter()
            .filter_map(|table| table.get("address")?.as_str())
            .map(str::to_owned)
            .collect(),
    })
}

fn add(service: &mut dyn TableLike, name: &str, address: IpAddr, weight: u32) -> Result<(), EditError> {
    if position(service, name, address).is_ok() {
        return Err(EditError::AlreadyPresent { service: name.to_owned(), address });
    }
    let fill = |table: &mut dyn TableLike| {
        table.insert("address", value(address.to_string()));
        if weight != 1 {
            table.insert("weight", value(i64::from(weight)));
        }
    };
    match service.get_mut("backend") {
        Some(Item::Value(Value::Array(list))) => {
            let mut table = InlineTable::new();
            fill(&mut table);
            push_inline(list, table);
        }
        Some(Item::ArrayOfTables(list)) => {
            let mut table = Table::new();
            if let Some(last) = list.iter().last() {
                *table.decor_mut() = blank_lines(last);
                copy_indent(last, &mut table, fill);
            } else {
                fill(&mut table);
            }
            list.push(table);
        }
        _ => {
            let mut table = Table::new();
            fill(&mut table);
            let mut list = ArrayOfTables::new();
            list.push(table);
            service.insert("backend", Item::ArrayOfTables(list));
        }
    }
    Ok(())
}

/// The space in front of a table's header, without its comments.
fn blank_lines(table: &Table) -> toml_edit::Decor {
    let prefix = table.decor().prefix().and_then(|raw| raw.as_str()).unwrap_or("\n");
    let indent = prefix.rsplit('\n').next().unwrap_or_default();
    let blank = prefix.starts_with('\n') || prefix.starts_with("\r\n");
    toml_edit::Decor::new(format!("{}{indent}", if blank { "\n" } else { "" }), "")
}

/// Fills a new table, its keys indented like those of the table before it.
fn copy_indent(before: &Table, table: &mut Table, fill: impl FnOnce(&mut dyn TableLike)) {
    fill(table);
    let indent = indent_of(before);
    for (mut key, _) in table.iter_mut() {
        key.leaf_decor_mut().set_prefix(indent.clone());
    }
}

/// The space in front of a table's first key.
fn indent_of(table: &dyn TableLike) -> String {
    let first = table.iter().next().and_then(|(name, _)| table.key(name));
    let prefix = first.and_then(|key| key.leaf_decor().prefix()?.as_str()).unwrap_or_default();
    prefix.rsplit('\n').next().unwrap_or_default().to_owned()
}

/// Appends to an inline list, on a line of its own if the others are.
fn push_inline(list: &mut Array, table: InlineTable) {
    let prefix = list.iter().last().and_then(|last| last.decor().prefix()?.as_str()).unwrap_or_default();
    let newline = prefix.contains('\n');
    let prefix = match prefix.rfind('\n') {
        Some(at) => prefix[at..].to_owned(),
        None if list.is_empty() => String::new(),
        None => " ".to_owned(),
    };
    let mut entry = Value::InlineTable(table);
    if newline {
        // A comment behind the last entry stays there.
        let comment = list.trailing().as_str().unwrap_or_default().trim_end().to_owned();
        entry.decor_mut().set_prefix(format!("{comment}{prefix}"));
        list.set_trailing("\n");
    } else {
        // The space in front of the closing bracket stays there.
        let last = list.iter_mut().last().map(Value::decor_mut);
        let space = last.and_then(|decor| {
            let space = decor.suffix()?.as_str()?.to_owned();
            decor.set_suffix("");
            Some(space)
        });
        *entry.decor_mut() = toml_edit::Decor::new(prefix, space.unwrap_or_default());
    }
    list.push_formatted(entry);
}

fn set(
    service: &mut dyn TableLike,
    name: &str,
    address: IpAddr,
    key: &str,
    new: Value,
    is_default: bool,
) -> Result<(), EditError> {
    let position = position(service, name, address)?;
    let mut backends = service.get_mut("backend").map(tables_mut).unwrap_or_default();
    let table: &mut dyn TableLike = &mut *backends[position];
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        _ if is_default => {}
        _ => {
            let indent = indent_of(table);
            table.insert(key, Item::Value(new));
            if let Some(mut key) = table.key_mut(key)
                && !indent.is_empty()
            {
                key.leaf_decor_mut().set_prefix(indent);
            }
        }
    }
    Ok(())
}

fn remove(text: &str, service: &str, address: IpAddr) -> Result<String, EditError> {
    let document = Document::parse(text).map_err(unreadable)?;
    let services = document.get("service").map(tables).unwrap_or_default();
    let Some(table) = services.iter().find(|table| name_of(**table) == Some(service)) else {
        let known = document.get("service").map(names).unwrap_or_default();
        return Err(EditError::UnknownService { name: service.to_owned(), known });
    };
    let position = position(*table, service, address)?;
    if let Some(Item::ArrayOfTables(list)) = table.get("backend")
        && let Some(lines) = list.get(position).and_then(|table| lines_of(text, table))
    {
        return Ok(without(text, lines));
    }
    modify(text, service, |table| {
        if let Some(list) = table.get_mut("backend").and_then(Item::as_array_mut) {
            list.remove(position);
        }
        Ok(())
    })
}

/// The lines from a table's header to its last value.
fn lines_of(text: &str, table: &Table) -> Option<Range<usize>> {
    let header = table.span()?;
    let values = table.iter().filter_map(|(_, item)| item.span());
    let end = values.map(|span| span.end).fold(header.end, usize::max);
    let first = text[..header.start].rfind('\n').map_or(0, |newline| newline + 1);
    let last = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    Some(first..last)
}

/// The text without these lines, and without the second of two blank lines that then meet.
fn without(text: &str, lines: Range<usize>) -> String {
    let (before, after) = (&text[..lines.start], &text[lines.end..]);
    let blank = |line: Option<&str>| line.is_none_or(|line| line.trim().is_empty());
    let first_after = after.split_inclusive('\n').next();
    let after = match first_after {
        Some(line) if line.trim().is_empty() && blank(before.lines().last()) => &after[line.len()..],
        _ => after,
    };
    format!("{before}{after}")
}

#[cfg(test)]
mod tests;
