//! MySQL 8's way to log in, `caching_sha2_password`, against a server of a few lines: Debian has none. It checks all that it is
//! told, so what the relay between it and the client library carries has arrived as it was said.

#![expect(clippy::indexing_slicing, reason = "what is not there fails the test")]

use std::sync::Arc;

use manifest::{
    Secret,
    runtime_config::{ClientTls, Pem},
};
use num_bigint::BigUint;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    databases::{ask, everywhere},
    support::{App, guest},
};

const PASSWORD: &str = "correct horse";
const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";
const PLUGIN: &[u8] = b"caching_sha2_password\0";
/// What it says to a statement: that somebody is in.
const IN: &[u8] = b"\xff\x7a\x04#42S02somebody is in";

/// A key of 2048 bits that protects nothing, as MySQL makes one at its first start.
const PUBLIC_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwFxAemXZ9gJsbSrBaikY\n\
z78l55xS1SPKh0pZJwt+tb9SkLDrO6wJtX2c6Ux1YanWjkamEp6exMfMRGZ9+aug\n\
cYCbwdPD4HzF0z9VsYO90hFwCtQs5U+lH1L4KF4lF2BWctqjly2QDmr3i5TsZiuu\n\
jRSFZvmVZQKZ2QhDjAKR+1dkTnlUjw2bGt0wRAnQAwYA7DcguGePGt742jzce/Pz\n\
eas9uY0cx8REnf98PhrpW3vIICNiVrNF/ACG8l1mmqSTcjwvelw2CxolwBWbwEuZ\n\
/J2fQMVTGf4gn2+8ZSokDahrTQmhxOx6ZvS45smXMqC5ZFsY7Hbq5zr0dbi67KIp\n\
vwIDAQAB\n\
-----END PUBLIC KEY-----\n";
const MODULUS: &str = "\
    c05c407a65d9f6026c6d2ac16a2918cfbf25e79c52d523ca874a59270b7eb5bf5290b0eb3bac09b57d9ce94c7561a9d68e46\
    a6129e9ec4c7cc44667df9aba071809bc1d3c3e07cc5d33f55b183bdd211700ad42ce54fa51f52f8285e2517605672daa397\
    2d900e6af78b94ec662bae8d148566f995650299d908438c0291fb57644e79548f0d9b1add304409d0030600ec3720b8678f\
    1adef8da3cdc7bf3f379ab3db98d1cc7c4449dff7c3e1ae95b7bc820236256b345fc0086f25d669aa493723c2f7a5c360b1a\
    25c0159bc04b99fc9d9f40c55319fe209f6fbc652a240da86b4d09a1c4ec7a66f4b8e6c99732a0b9645b18ec76eae73af475\
    b8baeca229bf";
const EXPONENT: &str = "\
    0180fff6cf7ee7bfc9dc30c609ff5ecf1521530bb90a33f8280af83f1f62437fea03db19474d5c5f96b4572da30f17d38f15\
    f662a2d003076d46d2ef8daf2845967cc02780584d22885369c845e3a58413a93e26869aa4a1ac82e7b05f7fba0331e8d23e\
    888212d1677b39b76da38c10bea616257faa94ad12c3c2d81f594c35d8e50fef104049d31e76c90f165be628b02b09afb097\
    8e994b3ea9eaff94496595f63b6c6503547b3ef12c03c5ec418b25c0ee96c3b3442f1dfc24b5f8ff0bfd941be26df1bd4675\
    093e7f3b2b249a038937ed606286a871969783feb513f24b89230eaab261ce0a614a065863467b43b37ec51fbbc6ca4bf125\
    f69da5285311";

/// What the server asks of a client that has shown that it knows a hash.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Nothing: the server has the password's hash in its cache.
    Fast,
    /// The password itself.
    Full,
    /// The same, after changing from another plugin.
    Switch,
}

/// One connection and the number of its last packet.
struct Wire<S> {
    stream: S,
    number: u8,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    async fn read(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await.ok()?;
        let mut payload = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
        self.stream.read_exact(&mut payload).await.ok()?;
        assert!(header[3] == 0 || header[3] == self.number.wrapping_add(1), "{} after {}", header[3], self.number);
        self.number = header[3];
        Some(payload)
    }

    async fn say(&mut self, payload: &[u8]) {
        self.number = self.number.wrapping_add(1);
        let size = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let packet = [&size[..3], &[self.number], payload].concat();
        self.stream.write_all(&packet).await.unwrap();
    }

    /// From the client's response on; `secure` says whether a password may be said here.
    async fn log_in(&mut self, way: Way, secure: bool) -> Option<()> {
        let response = self.read().await?;
        // After flags, longest packet, characters and what is reserved.
        let after = response[32..].strip_prefix(b"user\0").unwrap();
        let (size, after) = after.split_first().unwrap();
        let mut hash = after[..usize::from(*size)].to_vec();
        assert!(after[hash.len()..].starts_with(b"app\0"), "the database");
        if way == Way::Switch {
            self.say(&[b"\xfe", PLUGIN, NONCE, b"\0"].concat()).await;
            hash = self.read().await?;
        }
        if hash != scramble(PASSWORD) {
            self.say(b"\xff\x15\x04#28000Access denied").await;
            return None;
        }
        if way == Way::Fast {
            self.say(&[1, 3]).await;
        } else {
            self.say(&[1, 4]).await;
            let mut said = self.read().await?;
            if !secure {
                assert_eq!(said, [2], "it asks for the key");
                self.say(&[b"\x01", PUBLIC_KEY.as_bytes()].concat()).await;
                said = decrypt(&self.read().await?);
                said.iter_mut().zip(NONCE.iter().cycle()).for_each(|(byte, nonce)| *byte ^= nonce);
            }
            assert_eq!(String::from_utf8(said).unwrap(), format!("{PASSWORD}\0"));
        }
        self.say(&[0, 0, 0, 2, 0, 0, 0]).await;
        Some(())
    }

    async fn serve(&mut self, way: Way, secure: bool) -> Option<()> {
        self.log_in(way, secure).await?;
        loop {
            let command = self.read().await?;
            match command.first() {
                Some(0x16) => self.say(IN).await,
                _ => self.say(&[0, 0, 0, 2, 0, 0, 0]).await,
            }
        }
    }
}

/// What `caching_sha2_password` says instead of a password.
fn scramble(password: &str) -> Vec<u8> {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let with_nonce = Sha256::new().chain_update(twice).chain_update(NONCE).finalize();
    once.iter().zip(with_nonce).map(|(one, other)| one ^ other).collect()
}

/// RSA with OAEP and SHA-1 (RFC 8017, 7.1.2).
fn decrypt(cipher: &[u8]) -> Vec<u8> {
    let number = |text: &str| BigUint::parse_bytes(text.as_bytes(), 16).unwrap();
    let plain = BigUint::from_bytes_be(cipher).modpow(&number(EXPONENT), &number(MODULUS)).to_bytes_be();
    let block = [vec![0; cipher.len() - plain.len()], plain].concat();
    let (seed, data) = block[1..].split_at(20);
    let seed = masked(seed, data);
    let data = masked(data, &seed);
    assert_eq!((block[0], &data[..20]), (0, Sha1::digest("").as_slice()));
    let begins = data[20..].iter().position(|byte| *byte == 1).unwrap();
    data[20 + begins + 1..].to_vec()
}

/// MGF1 of `seed`, over `bytes`.
fn masked(bytes: &[u8], seed: &[u8]) -> Vec<u8> {
    let mask = (0_u32..).flat_map(|count| Sha1::new().chain_update(seed).chain_update(count.to_be_bytes()).finalize());
    bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

async fn meet(mut client: TcpStream, way: Way, tls: Option<TlsAcceptor>) {
    let flags: u16 = if tls.is_some() { 0xffff } else { 0xf7ff };
    let plugin = if way == Way::Switch { b"mysql_native_password\0".as_slice() } else { PLUGIN };
    let greeting = [
        b"\x0a8.4.3\0\x01\0\0\0".as_slice(),
        &NONCE[..8],
        b"\0",
        &flags.to_le_bytes(),
        &[45, 2, 0, 0xff, 0xff, 21],
        &[0; 10],
        &NONCE[8..],
        b"\0",
        plugin,
    ]
    .concat();
    let mut wire = Wire { stream: &mut client, number: u8::MAX };
    wire.say(&greeting).await;
    let Some(acceptor) = tls else {
        wire.serve(way, false).await;
        return;
    };
    assert_eq!(wire.read().await.unwrap().len(), 32, "a request for TLS");
    let number = wire.number;
    if let Ok(stream) = acceptor.accept(client).await {
        Wire { stream, number }.serve(way, true).await;
    }
}

/// A server for one way to log in.
async fn mysql_8(way: Way, tls: Option<TlsAcceptor>) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut clients = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            clients.spawn(meet(client, way, tls.clone()));
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn a_password_of_mysql_8_goes_over_tls_as_it_is_and_over_tcp_encrypted() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], made.signing_key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let trusted = ClientTls {
        component_ids: vec!["main".to_owned()],
        hosts: vec!["localhost".to_owned()],
        platform_roots: false,
        webpki_roots: false,
        ca_roots: Some(Pem::Text(Secret::new(made.cert.pem()))),
        client_cert: None,
        client_private_key: None,
    };
    let app = everywhere(App::of(&guest("http-spin-sdk"))).runtime_config(|config| config.client_tls.push(trusted));
    let served = app.serve().await;
    for way in [Way::Full, Way::Fast, Way::Switch] {
        for tls in [None, Some(acceptor.clone())] {
            let mode = if tls.is_some() { "VERIFY_IDENTITY" } else { "DISABLED" };
            let (port, _server) = mysql_8(way, tls).await;
            let url = |password: &str| format!("mysql://user:{password}@localhost:{port}/app?ssl-mode={mode}");
            let says = ask(&served, "/db/mysql", &[&url("correct%20horse"), "select 1"]).await;
            assert!(says.contains("somebody is in"), "{way:?} {mode}: {says}");
            let says = ask(&served, "/db/mysql", &[&url("wrong"), "select 1"]).await;
            assert!(says.starts_with("open: ") && says.contains("Access denied"), "{way:?} {mode}: {says}");
        }
    }
}
