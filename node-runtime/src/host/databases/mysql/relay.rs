//! [`Relay`]: stands between the client library and a server.
//!
//! The library believes what a server announces: it makes room for as many columns before it has read one of them, and a
//! server that says that there are very many ends the process. It takes no stream of ours either. So it connects to this, over
//! a socket of this machine, and hears what [`Protocol`] lets through.
//!
//! Also here, because the library cannot do it by this way: TLS with the server, and connecting by way of a [`Network`].

use std::{
    fmt, io,
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use mysql_async::OptsBuilder;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::{
    address::{Address, TlsMode},
    protocol::{Protocol, Violation},
};
use crate::host::{
    Network,
    limits::HostMemory,
    network::wire::{Budget, Wire, WireError},
};

/// How large a packet of the login may be. Those of servers have some hundred bytes.
const LOGIN: usize = 1 << 16;
/// How much is carried at a time.
const CARRIED: usize = 16 << 10;
/// The size of a packet's header: three bytes of size, and its number.
const HEADER: usize = 4;
/// How much of a client's response goes before the user: its flags, its longest packet, its characters and what is reserved. A
/// request for TLS is that much.
const FIXED: u8 = 32;
/// Where the user is.
const USER: usize = HEADER + FIXED as usize;

/// How a server's first packet begins: with the protocol's version, or with why it does not let anybody in.
const GREETING: u8 = 10;
const REFUSAL: u8 = 0xff;

/// Flags that both sides must have to agree on something.
mod capability {
    pub(super) const COMPRESS: u32 = 1 << 5;
    pub(super) const LOCAL_FILES: u32 = 1 << 7;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const DEPRECATE_EOF: u32 = 1 << 24;
    pub(super) const OPTIONAL_METADATA: u32 = 1 << 25;
    /// What [`super::Protocol`] does not follow, and what is this side's business.
    pub(super) const UNWANTED: u32 = COMPRESS | LOCAL_FILES | SSL | DEPRECATE_EOF | OPTIONAL_METADATA;
}

/// A connection to a server that waits for the client library.
pub(super) struct Relay {
    server: Wire,
    /// What the server said first.
    greeting: Vec<u8>,
    tls: Option<Arc<ClientConfig>>,
    host: String,
    listener: Listener,
    /// Whom the server knows.
    user: String,
    /// As whom the library comes: nobody else on this machine knows that.
    token: String,
}

/// Where the library connects to. Over a socket that is no network's it says passwords in the clear, so it has one where TLS
/// is spoken with the server, and only there.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

/// Bytes to and from the library.
trait Library: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Library for T {}

/// What a relay does, until this is dropped or one of its ends is gone.
pub(super) struct Relayed {
    task: AbortOnDropJoinHandle<()>,
    complaint: Arc<OnceLock<String>>,
}

/// Why a server is not connected to, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// There is no connection, or no TLS.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The connection is lost, or there is no socket for the library.
    #[error("the connection is lost: {0}")]
    Io(#[from] io::Error),
    /// The server says what no server says.
    #[error("the server is not believed: {0}")]
    Violation(#[from] Violation),
    /// The address asks for TLS.
    #[error("`{0}` speaks no TLS")]
    NoTls(String),
}

impl Relay {
    /// Connects to the server at `address`.
    pub(super) async fn open(network: &Network, address: &Address, until: Instant) -> Result<Self, RelayError> {
        let (host, port) = (address.opts.ip_or_hostname().to_owned(), address.opts.tcp_port());
        // What is held of an answer is counted where rows are read.
        let mut server =
            Wire::connect(network, &host, port, false, Budget::new(usize::MAX, &HostMemory::default()), until).await?;
        let mut greeting = read_packet(&mut server).await?;
        let (refuses, speaks_tls) = match greeting.get(HEADER) {
            Some(&GREETING) => (false, tame(&mut greeting)),
            Some(&REFUSAL) => (true, false),
            _ => return Err(Violation::Unexpected.into()),
        };
        let identity = network.identity();
        let tls = match address.tls {
            TlsMode::Required | TlsMode::Preferred if speaks_tls => Some(identity.config(&host).await),
            TlsMode::AnyName if speaks_tls => Some(identity.config_for_any_name(&host).await),
            TlsMode::Required | TlsMode::AnyName if !refuses => return Err(RelayError::NoTls(host)),
            _ => None,
        };
        let tls = tls.transpose().map_err(WireError::from)?;
        let listener = Listener::bind(tls.is_some()).await?;
        let user = address.opts.user().unwrap_or_default().to_owned();
        let token = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { server, greeting, tls, host, listener, user, token })
    }

    /// `opts`, by which the library comes here.
    ///
    /// # Errors
    /// When nobody can come here.
    pub(super) fn lead(&self, opts: OptsBuilder) -> Result<OptsBuilder, RelayError> {
        let opts = opts.user(Some(self.token.clone()));
        Ok(match &self.listener {
            Listener::Unix(_, name) => opts.socket(Some(name.clone())),
            Listener::Tcp(listener) => {
                let here = listener.local_addr()?;
                opts.resolved_ips(Some(vec![here.ip()])).tcp_port(here.port())
            }
        })
    }

    /// Lets the library in, and carries what both sides say.
    pub(super) fn start(self) -> Relayed {
        let complaint: Arc<OnceLock<String>> = Arc::default();
        let told = Arc::clone(&complaint);
        let task = spawn(async move {
            let mut library = None;
            if let Err(error) = self.run(&mut library).await {
                // Before the library hears that the connection is gone.
                let _first = told.set(error.to_string());
            }
        });
        Relayed { task, complaint }
    }

    async fn run(self, library: &mut Option<Box<dyn Library>>) -> Result<(), RelayError> {
        let Self { mut server, greeting, tls, host, listener, user, token } = self;
        let (library, mut response) = loop {
            let library = library.insert(listener.accept().await?);
            library.write_all(&greeting).await?;
            let response = read_packet(library).await?;
            if let Some(response) = signed(&response, &token, &user) {
                break (library, response);
            }
        };
        drop(listener);
        let ahead = u8::from(tls.is_some());
        if let Some(config) = tls {
            let request = request_tls(&mut response);
            server.write_all(&request).await?;
            server = server.secure(&host, config).await?;
        }
        server.write_all(&response).await?;
        server.flush().await?;
        carry(library, &mut server, Protocol::new(ahead)).await
    }
}

impl Relayed {
    /// Why the connection ended, if that was not the library's doing.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.get().map(String::as_str)
    }

    /// Whether both ends are there.
    pub(super) fn is_open(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Listener {
    async fn bind(private: bool) -> io::Result<Self> {
        if !private {
            return TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map(Self::Tcp);
        }
        // A name that is no file's (Linux: unix(7), abstract).
        let name = format!("\0spindle-mysql-{}", uuid::Uuid::new_v4().simple());
        Ok(Self::Unix(UnixListener::bind(&name)?, name))
    }

    async fn accept(&self) -> io::Result<Box<dyn Library>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Reads a packet of the login with its header.
async fn read_packet(stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> io::Result<Vec<u8>> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let [low, middle, high, _number] = header.map(usize::from);
    let size = low | middle << 8 | high << 16;
    if size > LOGIN {
        return Err(io::Error::other("it is not MySQL's protocol"));
    }
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload).await?;
    Ok([header.as_slice(), &payload].concat())
}

/// Takes the [unwanted](capability::UNWANTED) from what a greeting offers, and says whether it offers TLS.
fn tame(greeting: &mut [u8]) -> bool {
    let version = greeting.iter().skip(HEADER + 1).position(|byte| *byte == 0);
    let Some(version) = version else { return false };
    // After the version come the connection's number, the first half of a nonce, and a zero.
    let at = HEADER + 1 + version + 1 + 4 + 8 + 1;
    let mut offered = [0; 4];
    // Between the halves of the flags are characters and status.
    for ((offered, unwanted), at) in
        offered.iter_mut().zip(capability::UNWANTED.to_le_bytes()).zip([at, at + 1, at + 5, at + 6])
    {
        let Some(flags) = greeting.get_mut(at) else { break };
        *offered = *flags;
        *flags &= !unwanted;
    }
    // MariaDB's own flags.
    if let Some(own) = greeting.get_mut(at + 14..at + 18) {
        own.fill(0);
    }
    u32::from_le_bytes(offered) & capability::SSL != 0
}

/// The library's response to a greeting, with the user for its `token`; none if somebody else has come.
fn signed(response: &[u8], token: &str, user: &str) -> Option<Vec<u8>> {
    let after = response.get(USER..)?.strip_prefix(token.as_bytes())?;
    let payload = [response.get(HEADER..USER)?, user.as_bytes(), after].concat();
    let size = u32::try_from(payload.len()).ok()?.to_le_bytes();
    Some([size.get(..3)?, response.get(3..HEADER)?, &payload].concat())
}

/// The request for TLS that goes before `response`. It is how that begins.
fn request_tls(response: &mut [u8]) -> Vec<u8> {
    let [_, flag, ..] = capability::SSL.to_le_bytes();
    if let Some(flags) = response.get_mut(HEADER + 1) {
        *flags |= flag;
    }
    let mut request = response.get(..USER).unwrap_or(response).to_vec();
    if let Some(size) = request.first_chunk_mut::<3>() {
        *size = [FIXED, 0, 0];
    }
    if let Some(number) = response.get_mut(3) {
        *number = number.wrapping_add(1);
    }
    request
}

/// Carries what is said, until one side is gone.
async fn carry(library: &mut Box<dyn Library>, server: &mut Wire, mut protocol: Protocol) -> Result<(), RelayError> {
    let (mut asked, mut answered) = (vec![0; CARRIED], vec![0; CARRIED]);
    loop {
        tokio::select! {
            read = library.read(&mut asked) => {
                let bytes = asked.get_mut(..read?).unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(());
                }
                protocol.asked(bytes);
                server.write_all(bytes).await?;
                server.flush().await?;
            }
            read = server.read(&mut answered) => {
                let bytes = answered.get_mut(..read?).unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(());
                }
                protocol.answered(bytes)?;
                library.write_all(bytes).await?;
            }
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A greeting of MySQL 8 with all flags.
    fn greeting() -> Vec<u8> {
        let payload = [
            &[GREETING][..],
            b"8.0.36\0",
            &[7, 0, 0, 0],
            b"12345678\0",
            &[0xff, 0xff, 45, 2, 0, 0xff, 0xff, 21],
            &[0; 6],
            &[0xff; 4],
            b"123456789012\0caching_sha2_password\0",
        ]
        .concat();
        [&[u8::try_from(payload.len()).unwrap(), 0, 0, 0], payload.as_slice()].concat()
    }

    #[test]
    fn a_greeting_offers_nothing_that_is_not_followed_here() {
        let (before, mut after) = (greeting(), greeting());
        assert!(tame(&mut after));
        let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        let flags = HEADER + 1 + 7 + 13;
        assert_eq!(changed, [flags, flags + 1, flags + 6, flags + 14, flags + 15, flags + 16, flags + 17]);
        assert_eq!([after[flags], after[flags + 1], after[flags + 6]], [0x5f, 0xf7, 0xfc]);
        assert!(!tame(&mut after), "it is the same as of a server that speaks no TLS");
        for cut in 0..before.len() {
            tame(&mut before[..cut].to_vec());
        }
    }

    #[test]
    fn only_who_knows_the_token_is_let_in_as_the_user() {
        let response = |user: &str| [&[46, 0, 0, 1][..], &[0; 32], user.as_bytes(), b"\0\x04hash\0"].concat();
        let signed_response = signed(&response("token"), "token", "somebody").unwrap();
        assert_eq!(signed_response, [&[47, 0, 0, 1][..], &[0; 32], b"somebody\0\x04hash\0"].concat());
        assert_eq!(signed(&response("other"), "token", "somebody"), None);
        assert_eq!(signed(b"", "token", "somebody"), None);
    }

    #[test]
    fn a_request_for_tls_goes_before_the_response_and_both_say_so() {
        let mut response = [&[40, 0, 0, 1][..], &[1; 32], b"user\0..."].concat();
        let request = request_tls(&mut response);
        assert_eq!((request.len(), &request[..6]), (36, &[32, 0, 0, 1, 1, 9][..]));
        assert_eq!(response[..6], [40, 0, 0, 2, 1, 9]);
    }
}
