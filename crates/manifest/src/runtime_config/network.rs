//! What a runtime configuration says about connections to other machines.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use super::{Origin, read::Source};
use crate::{
    reader::{Field, Table},
    secret::Secret,
};

/// `[outbound_http]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboundHttp {
    /// `connection_pooling`: whether connections are used again. Default true.
    pub connection_pooling: bool,
    /// `max_connections`: at a time, over all components; `None` means no limit of its own.
    pub max_connections: Option<usize>,
}

impl Default for OutboundHttp {
    fn default() -> Self {
        Self { connection_pooling: true, max_connections: None }
    }
}

/// `[outbound_networking]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundNetworking {
    /// `block_networks`: where no guest may connect to, whatever its manifest allows.
    pub block_networks: Vec<BlockedNetwork>,
    /// `max_socket_connections`: of `wasi:sockets`, at a time.
    pub max_socket_connections: Option<usize>,
    /// `max_total_connections`: of all kinds, at a time.
    pub max_total_connections: Option<usize>,
}

/// An entry of `block_networks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockedNetwork {
    /// `private`: every address that is not of the public internet.
    Private,
    /// The addresses whose first bits are those of this one; a single address has all its bits.
    Network {
        /// An address of the network.
        address: IpAddr,
        /// How many of its bits count.
        bits: u8,
    },
}

impl FromStr for BlockedNetwork {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "private" {
            return Ok(Self::Private);
        }
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), str::parse).map_err(|_| ())?;
        if bits <= width { Ok(Self::Network { address, bits }) } else { Err(()) }
    }
}

/// One `[[client_tls]]`: how components prove themselves to servers, and whom they trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// For these components; at least one.
    pub component_ids: Vec<String>,
    /// When they call these hosts, in lower case; at least one.
    pub hosts: Vec<String>,
    /// `ca_use_platform_roots`: trust the system's authorities. By default only when nothing else is said about
    /// authorities.
    pub platform_roots: bool,
    /// `ca_use_webpki_roots`: trust Mozilla's authorities. Default false.
    pub webpki_roots: bool,
    /// `ca_roots_file` or `ca_roots_pem`: authorities to trust.
    pub ca_roots: Option<Pem>,
    /// `client_cert_file` or `client_cert_pem`: a certificate chain; there exactly when its key is.
    pub client_cert: Option<Pem>,
    /// `client_private_key_file` or `client_private_key_pem`: its key.
    pub client_private_key: Option<Pem>,
}

/// Certificates or a key in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// In the runtime configuration itself: a cluster has no files for an app.
    Text(Secret),
}

pub(super) fn read_http(root: &Table<'_>) -> OutboundHttp {
    let Some(table) = root.table("outbound_http") else { return OutboundHttp::default() };
    let http = OutboundHttp {
        connection_pooling: table.boolean("connection_pooling").unwrap_or(true),
        max_connections: table.count("max_connections"),
    };
    table.finish();
    http
}

pub(super) fn read_networking(root: &Table<'_>) -> OutboundNetworking {
    let Some(table) = root.table("outbound_networking") else { return OutboundNetworking::default() };
    let networks = table.list("block_networks");
    let networking = OutboundNetworking {
        block_networks: networks.iter().filter_map(read_blocked).collect(),
        max_socket_connections: table.count("max_socket_connections"),
        max_total_connections: table.count("max_total_connections"),
    };
    table.finish();
    networking
}

fn read_blocked(field: &Field<'_>) -> Option<BlockedNetwork> {
    let network = field.string()?.parse();
    if network.is_err() {
        field.report("is not a network: write one such as `10.0.0.0/8`, an address, or `private`");
    }
    network.ok()
}

/// The `max_connections` of the table under `key`.
pub(super) fn read_max_connections(root: &Table<'_>, key: &'static str) -> Option<usize> {
    let table = root.table(key)?;
    let count = table.count("max_connections");
    table.finish();
    count
}

pub(super) fn read_client_tls(root: &Table<'_>, source: Source<'_>) -> Vec<ClientTls> {
    let all = root.get("client_tls").map(|field| field.list_such_as("`[[client_tls]]` for each")).unwrap_or_default();
    all.iter().filter_map(Field::table).map(|table| read_one_tls(&table, source)).collect()
}

fn read_one_tls(table: &Table<'_>, source: Source<'_>) -> ClientTls {
    let component_ids = some(table, "component_ids", "`component_ids = [\"my-component\"]`");
    let hosts = some(table, "hosts", "`hosts = [\"example.com\"]`");
    let ca_roots = read_pem(table, source, CA_ROOTS);
    let client_cert = read_pem(table, source, CLIENT_CERT);
    let client_private_key = read_pem(table, source, CLIENT_PRIVATE_KEY);
    match (either(table, CLIENT_CERT), either(table, CLIENT_PRIVATE_KEY)) {
        (Some(alone), None) => {
            alone.report("needs its key: add `client_private_key_file`, or `client_private_key_pem`");
        }
        (None, Some(alone)) => alone.report("needs its certificate: add `client_cert_file`, or `client_cert_pem`"),
        _ => {}
    }
    if source.0 == Origin::Pool
        && let Some(field) = either(table, CLIENT_CERT)
    {
        field.report("would let every app pass for this client: give each app its own, in its `runtimeConfig`");
    }
    let (platform, webpki) = (table.boolean("ca_use_platform_roots"), table.boolean("ca_use_webpki_roots"));
    table.finish();
    ClientTls {
        component_ids: component_ids.iter().filter_map(Field::string).collect(),
        hosts: hosts.iter().filter_map(read_tls_host).collect(),
        platform_roots: platform.unwrap_or(webpki.is_none() && ca_roots.is_none()),
        webpki_roots: webpki.unwrap_or(false),
        ca_roots,
        client_cert,
        client_private_key,
    }
}

/// The keys of something in PEM form: that of a file with it, and that of the text itself.
type PemKeys = (&'static str, &'static str);

const CA_ROOTS: PemKeys = ("ca_roots_file", "ca_roots_pem");
const CLIENT_CERT: PemKeys = ("client_cert_file", "client_cert_pem");
const CLIENT_PRIVATE_KEY: PemKeys = ("client_private_key_file", "client_private_key_pem");

/// What is there of the two.
fn either<'d>(table: &Table<'d>, (file, text): PemKeys) -> Option<Field<'d>> {
    table.get(file).or_else(|| table.get(text))
}

fn read_pem(table: &Table<'_>, source: Source<'_>, (file, text): PemKeys) -> Option<Pem> {
    match (table.get(file), table.get(text)) {
        (Some(_), Some(both)) => {
            both.report(format!("cannot be there together with `{file}`: remove one of them"));
            None
        }
        (Some(field), None) if source.is_of_cluster() => {
            field.report(format!("names a file, and there are none on a cluster: write what it holds under `{text}`"));
            None
        }
        (Some(_), None) => source.path(table, file).map(Pem::File),
        (None, Some(field)) => {
            let pem = field.string()?;
            if !pem.contains("-----BEGIN ") {
                field.report("must be PEM: text that begins with `-----BEGIN `");
            }
            Some(Pem::Text(Secret::new(pem)))
        }
        (None, None) => None,
    }
}

/// The elements of a list that must have some.
fn some<'d>(table: &Table<'d>, key: &'static str, hint: &str) -> Vec<Field<'d>> {
    let Some(field) = table.required(key, hint) else { return Vec::new() };
    let elements = field.list();
    if field.is_empty() {
        field.report("must not be empty");
    }
    elements
}

/// The name or address of a server, as it is in a certificate.
fn read_tls_host(field: &Field<'_>) -> Option<String> {
    let host = field.string()?.to_ascii_lowercase();
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if host.parse::<IpAddr>().is_err() && !host.split('.').all(label) {
        field.report("must be the name or the address of a server, such as `example.com`, without scheme and port");
        return None;
    }
    Some(host)
}
