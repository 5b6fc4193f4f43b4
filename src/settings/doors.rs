//! The two doors: where they listen, how they are encrypted, who may use the control door.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;

use super::Table;
use crate::domain::rate::Rate;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::id::SecretName;
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::Path;

/// The public door: webhooks only.
#[derive(Debug, Clone)]
pub struct HooksDoor {
    pub address: SocketAddr,
    /// In the clear when absent.
    pub tls: Option<DoorTls>,
    /// In the clear on an address that is not loopback, and that was written out.
    pub insecure: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Deliveries that all routes together take, and how many at once.
    pub rate: Option<(Rate, NonZeroU32)>,
    /// How platforms reach it.
    pub public_url: Option<String>,
}

/// The door for people and programs.
#[derive(Debug, Clone)]
pub struct ControlDoor {
    pub address: SocketAddr,
    /// In the clear when absent.
    pub tls: Option<DoorTls>,
    /// In the clear on an address that is not loopback, and that was written out.
    pub insecure: bool,
    /// Host names under which it is addressed, beside `localhost` and addresses.
    pub hosts: Vec<String>,
}

impl ControlDoor {
    /// The address for links that others follow: `bound`, where the door is; under its first host name, if it has one.
    pub fn url_for_others(&self, bound: &str) -> String {
        let Ok(mut url) = url::Url::parse(bound) else { return bound.to_owned() };
        let host = match (self.hosts.first(), self.address.ip().is_unspecified()) {
            (Some(host), _) => host,
            // Bound to every address, it can be reached at this machine's own.
            (None, true) => "localhost",
            (None, false) => return bound.to_owned(),
        };
        // What cannot be a host leaves the address as it is.
        let _ = url.set_host(Some(host));
        url.to_string()
    }

    /// The same before it is bound.
    pub fn url_configured(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.url_for_others(&format!("{scheme}://{}", self.address))
    }
}

/// Where a door has its certificate from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorTls {
    /// From two files.
    Files(TlsFiles),
    /// From the vault of `secrets`: the certificate of this name.
    KeyVault(SecretName),
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Who may use the control door.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Everyone who reaches it; the door is on loopback, and `none` was written out.
    None,
    /// By these ways, at least one.
    Methods {
        /// The secret that signs tokens (HS256), at least [`limits::JWT_SECRET_BYTES_MIN`] bytes.
        jwt: Option<SecretValue>,
        /// User names, and the secrets that hold their passwords.
        users: Vec<(String, SecretRef)>,
    },
}

const HOOKS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);
const CONTROL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// The variable that holds the secret when `auth` is left out.
const JWT_SECRET: &str = "JWT_SECRET";

/// What both doors have.
struct Door {
    address: SocketAddr,
    tls: Option<DoorTls>,
    insecure: bool,
}

impl Table<'_> {
    pub(super) fn doors(&mut self, head: &raw::Settings) -> (Option<HooksDoor>, Option<ControlDoor>) {
        let path = Path::root().with("listen");
        let hooks = head.listen.hooks.clone().unwrap_or_default();
        let control = head.listen.control.clone().unwrap_or_default();
        let hooks_path = path.with("hooks");
        let has_vault = head.secrets.source == Some(raw::SecretSource::KeyVault);
        let trusted = hooks_path.with("trusted_proxies");
        let trusted_proxies: Vec<IpNet> = hooks
            .trusted_proxies
            .iter()
            .enumerate()
            .filter_map(|(index, text)| self.desk.network(&trusted.with(index), text))
            .collect();
        let limit = self.desk.rate_limit(&hooks_path, hooks.rate.as_ref(), hooks.burst);
        let rate = limit.map(|limit| (limit.rate, limit.burst));
        let first =
            self.door(&hooks_path, hooks.address.as_ref(), hooks.tls.as_ref(), hooks.insecure, HOOKS, has_vault);
        let (address, tls, insecure) = (control.address.as_ref(), control.tls.as_ref(), control.insecure);
        let second = self.door(&path.with("control"), address, tls, insecure, CONTROL, has_vault);
        if let (Some(first), Some(second)) = (&first, &second)
            && first.address == second.address
            && first.address.port() != 0
        {
            // One of them may be left out; then the other is to blame.
            let door = if control.address.is_some() { "control" } else { "hooks" };
            let message = format!("both doors would listen on `{}`", first.address);
            let problem = self.desk.at("spec.listen", message, &path.with(door).with("address"));
            let usual = if door == "control" { CONTROL } else { HOOKS };
            self.desk.push(problem.help(format!("give this one another port, such as `{usual}`")));
        }
        let public_url = self.public_url(&hooks_path.with("public_url"), hooks.public_url);
        let hooks = first.map(|Door { address, tls, insecure }| HooksDoor {
            address,
            tls,
            insecure,
            trusted_proxies,
            rate,
            public_url,
        });
        let hosts = control.hosts;
        (hooks, second.map(|Door { address, tls, insecure }| ControlDoor { address, tls, insecure, hosts }))
    }

    /// An address that paths can go behind.
    fn public_url(&mut self, path: &Path, text: Option<String>) -> Option<String> {
        let text = text?;
        let fits = url::Url::parse(&text).is_ok_and(|url| {
            ["http", "https"].contains(&url.scheme()) && url.query().is_none() && url.fragment().is_none()
        });
        if !fits {
            let sentence = "expected an address that platforms can call";
            self.desk.bad_value(path, sentence, "write it like `public_url: https://gw.example.com`");
            return None;
        }
        Some(text)
    }

    fn door(
        &mut self,
        path: &Path,
        address: Option<&raw::ListenAddress>,
        tls: Option<&raw::ListenTls>,
        insecure: bool,
        default: SocketAddr,
        has_vault: bool,
    ) -> Option<Door> {
        let at = path.with("address");
        let address = match address.map(|raw::ListenAddress(text)| (text, text.parse::<SocketAddr>())) {
            None => default,
            Some((_, Ok(address))) => address,
            Some((text, Err(_))) => {
                let help = format!("write it like `address: {default}`; ports go up to 65535");
                self.desk.bad_value(&at, &format!("`{text}` is not an address with a port"), help);
                return None;
            }
        };
        let is_plain = tls.is_none();
        let tls = tls.and_then(|tls| self.tls(&path.with("tls"), tls, has_vault));
        if is_plain && !address.ip().is_loopback() {
            let message = format!("`{address}` can be reached from other machines, and this door speaks plain HTTP");
            let problem = self.desk.at("spec.insecure", message, &at);
            let help = "add `tls: { cert: …, key: … }`, listen on `127.0.0.1`, or write `insecure: true` if a proxy in \
                        front speaks TLS";
            let problem = if insecure { problem.warning() } else { problem };
            self.desk.push(problem.help(help));
        }
        Some(Door { address, tls, insecure })
    }

    /// The one form in which a certificate is named.
    fn tls(&mut self, path: &Path, raw: &raw::ListenTls, has_vault: bool) -> Option<DoorTls> {
        let raw::ListenTls { cert, key, key_vault_certificate } = raw;
        if let Some(name) = key_vault_certificate {
            let at = path.with("key_vault_certificate");
            if cert.is_some() || key.is_some() {
                let problem =
                    self.desk.at("spec.listen", "`tls` names a certificate in files and one in the vault", &at);
                self.desk.push(problem.help("keep `cert` and `key`, or keep `key_vault_certificate`"));
                return None;
            }
            if !has_vault {
                let problem = self.desk.at("spec.listen", "there is no vault to get this certificate from", &at);
                self.desk.push(problem.help("write `secrets: { source: key-vault, vault_url: … }`, or use files"));
                return None;
            }
            return SecretName::new(&name.0).ok().map(DoorTls::KeyVault);
        }
        let cert = self.needed(path, "cert", cert.as_deref(), "cert: fullchain.pem");
        let key = self.needed(path, "key", key.as_deref(), "key: privkey.pem");
        let (cert, key) = (cert?, key?);
        Some(DoorTls::Files(TlsFiles {
            cert: self.pem(&path.with("cert"), cert),
            key: self.pem(&path.with("key"), key),
        }))
    }

    /// A PEM file that must be there; the door reads it, and reads it again when it changes.
    fn pem(&mut self, path: &Path, name: &str) -> PathBuf {
        let file = self.absolute(name);
        if !file.is_file() {
            let problem = self.desk.at("spec.file", format!("there is no file `{}`", file.display()), path);
            self.desk.push(problem.help("the path begins at the folder of `clawhook.yaml`"));
        }
        file
    }

    pub(super) fn auth(&mut self, head: &raw::Settings, control: Option<IpAddr>) -> Auth {
        let path = Path::root().with("auth");
        match &head.auth {
            Some(raw::Auth::None) => {
                if control.is_some_and(|ip| !ip.is_loopback()) {
                    let message = "`auth: none` lets everyone who reaches the control door use it";
                    let problem = self.desk.at("spec.auth", message, &path);
                    let help = "listen on `127.0.0.1`, or write `auth: { jwt: { secret_env: JWT_SECRET } }`";
                    self.desk.push(problem.help(help));
                }
                Auth::None
            }
            Some(raw::Auth::Methods(methods)) => {
                let basic = path.with("basic").with("users");
                let mut users = Vec::new();
                for (user, raw) in methods.basic.iter().flat_map(|basic| &basic.users) {
                    let path = basic.with(user.as_str());
                    if user.contains(':') {
                        // RFC 7617, section 2.
                        let problem =
                            self.desk.problem("spec.name", "a user name holds no `:`", self.desk.map.entry(&path));
                        self.desk.push(problem.help("write another name"));
                    }
                    users.extend(self.secret(&path, raw).map(|reference| (user.clone(), reference)));
                }
                if methods.jwt.is_none() && users.is_empty() {
                    let problem = self.desk.at("spec.auth", "`auth` names no way to prove who one is", &path);
                    self.desk.push(problem.help("write `auth: { jwt: { secret_env: JWT_SECRET } }`"));
                }
                let jwt = methods.jwt.as_ref();
                let jwt = jwt.and_then(|jwt| self.jwt_secret(&path.with("jwt").with("secret_env"), &jwt.secret_env));
                Auth::Methods { jwt, users }
            }
            None => {
                let jwt = self.jwt_secret(&path, JWT_SECRET);
                Auth::Methods { jwt, users: Vec::new() }
            }
        }
    }

    fn jwt_secret(&mut self, path: &Path, variable: &str) -> Option<SecretValue> {
        let value = self.env.get(variable).map_or("", String::as_str);
        if value.len() >= limits::JWT_SECRET_BYTES_MIN {
            return Some(SecretValue::new(value));
        }
        let least = limits::JWT_SECRET_BYTES_MIN;
        let message = if value.is_empty() {
            format!("the variable `{variable}` is not set, so nobody could prove anything at the control door")
        } else {
            format!(
                "the variable `{variable}` has {} bytes; a secret that signs tokens has at least {least}",
                value.len()
            )
        };
        let help = format!(
            "set it to the output of `openssl rand -hex 32`, or write `auth: none` while the control door is on loopback \
             ({variable} is read from the environment only)"
        );
        let mut problem = self.desk.at("spec.jwt_secret", message, path).help(help);
        if path.key() == Some("auth") {
            problem.spot.span = self.desk.map.entry(&Path::root());
            problem = problem.label(format!("there is no `auth`, so `{variable}` is read"));
        }
        self.desk.push(problem);
        None
    }
}
