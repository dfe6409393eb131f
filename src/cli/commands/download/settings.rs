//! What the environment says about the hub: its address, the user's token, certificates, and patience.

use osp::{Error, Result, reading};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// The hub's address, unless `HF_ENDPOINT` names another.
const HUB: &str = "https://huggingface.co";
/// Seconds, unless `HF_HUB_DOWNLOAD_TIMEOUT` says others.
const SILENCE: u64 = 30;
/// The most bytes of a file of certificates. The lists of systems have a hundredth.
const CERTIFICATES: u64 = 16 << 20;

/// The settings of a hub. It has no `Debug`, so that nothing prints the token.
pub struct Settings {
    /// Address without a slash at its end.
    pub endpoint: Address,
    pub token: Option<String>,
    /// A hub that sends nothing for this time counts as lost.
    pub silence: Duration,
    /// Whose certificates the hub may have.
    pub roots: RootCerts,
}

impl Settings {
    /// The settings that `variable`, such as [`std::env::var`], gives.
    ///
    /// # Errors
    /// [`Error::Usage`] for values that cannot be used; the errors of reading the file of certificates.
    pub fn new(variable: impl Fn(&str) -> std::result::Result<String, std::env::VarError>) -> Result<Self> {
        let set = |name: &str| match variable(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(Error::Usage(format!("{name} is not text in UTF-8"))),
        };
        let endpoint = Address::endpoint(&set("HF_ENDPOINT")?.unwrap_or_else(|| HUB.to_owned()))?;
        let token = set("HF_TOKEN")?.map(|token| token_of(&token, &endpoint)).transpose()?;
        let silence = set("HF_HUB_DOWNLOAD_TIMEOUT")?.map_or(Ok(SILENCE), |text| seconds(&text))?;
        let roots = set("SSL_CERT_FILE")?.map_or(Ok(RootCerts::WebPki), |file| certificates(Path::new(&file)))?;
        Ok(Self { endpoint, token, silence: Duration::from_secs(silence), roots })
    }
}

/// The token, which must be one that a header can hold, and may not travel where others can read it.
fn token_of(text: &str, endpoint: &Address) -> Result<String> {
    let token = text.trim();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Usage("HF_TOKEN holds characters that no token has, such as spaces".into()));
    }
    if !endpoint.is_secure() && !endpoint.is_here() {
        return Err(Error::Usage(format!(
            "HF_TOKEN is not sent to {endpoint}, because others could read it on the way: use https, or unset HF_TOKEN"
        )));
    }
    Ok(token.to_owned())
}

fn seconds(text: &str) -> Result<u64> {
    let seconds = text.trim().parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    seconds.ok_or_else(|| {
        Error::Usage(format!("HF_HUB_DOWNLOAD_TIMEOUT is {text:?}, expected whole seconds from 1 to 3600"))
    })
}

fn certificates(file: &Path) -> Result<RootCerts> {
    let bytes = reading::bytes(file, CERTIFICATES).map_err(Error::io("cannot read", file))?;
    let wrong = |problem: &str| Error::Usage(format!("SSL_CERT_FILE: {}: {problem}", file.display()));
    let mut found: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&bytes) {
        match item.map_err(|_| wrong("is no file of certificates in PEM"))? {
            PemItem::Certificate(certificate) => found.push(certificate),
            _ => continue,
        }
    }
    if found.is_empty() {
        return Err(wrong("holds no certificate in PEM"));
    }
    Ok(RootCerts::Specific(Arc::new(found)))
}

/// A scheme, a host, a port, and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Uri);

impl Address {
    /// An address to which the names of models are appended. The text is not repeated if it may hold a password.
    fn endpoint(text: &str) -> Result<Self> {
        let wrong = |found: String| Error::Usage(format!("HF_ENDPOINT {found}, expected http(s)://HOST[:PORT][/PATH]"));
        if text.contains('@') {
            return Err(wrong("holds a user's name, which osp does not send".into()));
        }
        let text = text.trim().trim_end_matches('/');
        let address = Self::parse(text).filter(|address| address.0.query().is_none() && !text.contains('#'));
        address.ok_or_else(|| wrong(format!("is {text:?}")))
    }

    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(Self(uri))
    }

    /// The address of `path`, which is escaped, below this one.
    pub fn join(&self, path: &str) -> Option<Self> {
        Self::parse(&format!("{}/{path}", self.to_string().trim_end_matches('/')))
    }

    /// Where a redirect from here leads: to another address, or to another path of the same host.
    pub fn follow(&self, location: &str) -> Option<Self> {
        let (scheme, authority) = (self.0.scheme_str()?, self.0.authority()?);
        match location {
            _ if location.starts_with("//") => Self::parse(&format!("{scheme}:{location}")),
            _ if location.starts_with('/') => Self::parse(&format!("{scheme}://{authority}{location}")),
            _ => Self::parse(location),
        }
    }

    /// Whether the two have the same scheme, host and port.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.origin() == other.origin()
    }

    /// Whether a redirect from here to there would end encryption.
    pub fn is_exposed_by(&self, next: &Self) -> bool {
        self.is_secure() && !next.is_secure()
    }

    fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether it is on this machine.
    pub fn is_here(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback())
    }

    fn origin(&self) -> (bool, Option<String>, u16) {
        let usual = if self.is_secure() { 443 } else { 80 };
        let host = self.0.host().map(str::to_ascii_lowercase);
        (self.is_secure(), host, self.0.port_u16().unwrap_or(usual))
    }

    pub fn uri(&self) -> Uri {
        self.0.clone()
    }

    /// Scheme, host and port. The rest of an address that a hub names may hold secrets.
    pub fn site(&self) -> String {
        let port = self.0.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.0.scheme_str().unwrap_or_default(), self.0.host().unwrap_or_default())
    }
}

/// The address without a user's name, a password and a query.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.site(), self.0.path().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env::VarError;

    fn settings(set: &[(&str, &str)]) -> Result<Settings> {
        let value = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::new(|name| value(name).ok_or(VarError::NotPresent))
    }

    fn refused(set: &[(&str, &str)]) -> String {
        settings(set).err().unwrap_or_else(|| panic!("{set:?} is accepted")).to_string()
    }

    #[test]
    fn an_empty_environment_means_the_public_hub() {
        let plain = settings(&[("HF_TOKEN", " "), ("HF_ENDPOINT", "")]).unwrap();
        assert_eq!((plain.endpoint.to_string(), plain.token), (HUB.to_owned(), None));
        assert_eq!(plain.silence, Duration::from_secs(30));
        let own =
            [("HF_ENDPOINT", "http://localhost:80/hub/"), ("HF_TOKEN", "hf_a\n"), ("HF_HUB_DOWNLOAD_TIMEOUT", "7")];
        let own = settings(&own).unwrap();
        assert_eq!(own.endpoint.join("a/b?c=d").unwrap().uri(), "http://localhost:80/hub/a/b?c=d");
        assert_eq!((own.token.as_deref(), own.silence), (Some("hf_a"), Duration::from_secs(7)));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for endpoint in
            ["hub.example", "ftp://hub.example", "https://", "https://h/?q=1", "https://h/#a", "https://h h"]
        {
            let said = refused(&[("HF_ENDPOINT", endpoint)]);
            assert!(said.contains("HF_ENDPOINT is") && said.contains("expected http"), "{said}");
        }
        for time in ["0", "-1", "1.5", "soon", "3601"] {
            assert!(refused(&[("HF_HUB_DOWNLOAD_TIMEOUT", time)]).contains("whole seconds from 1 to 3600"));
        }
        let not_text = |_: &str| Err(VarError::NotUnicode("x".into()));
        assert!(Settings::new(not_text).err().unwrap().to_string().contains("HF_ENDPOINT is not text"));
    }

    #[test]
    fn neither_a_password_nor_a_token_is_repeated() {
        let said = refused(&[("HF_ENDPOINT", "https://me:hunter2@hub.example")]);
        assert!(said.contains("a user's name") && !said.contains("hunter2"), "{said}");
        for token in ["hf_sec ret", "hf_sec\nret", "hf_secré"] {
            let said = refused(&[("HF_TOKEN", token)]);
            assert!(said.contains("HF_TOKEN") && !said.contains("hf_sec"), "{said}");
        }
        let said = refused(&[("HF_TOKEN", "hf_secret"), ("HF_ENDPOINT", "http://hub.example")]);
        assert!(said.contains("http://hub.example") && said.contains("https") && !said.contains("hf_secret"), "{said}");
        for here in ["http://127.0.0.1:9", "http://[::1]:9", "http://localhost", "https://hub.example"] {
            assert!(settings(&[("HF_TOKEN", "hf_secret"), ("HF_ENDPOINT", here)]).is_ok(), "{here}");
        }
        let signed = Address::parse("https://me:hunter2@cdn.example:44/file?signature=secret").unwrap();
        assert_eq!(signed.to_string(), "https://cdn.example:44/file");
        assert_eq!(signed.site(), "https://cdn.example:44");
    }

    #[test]
    fn the_same_place_has_one_scheme_host_and_port() {
        let at = |text: &str| Address::parse(text).unwrap();
        let hub = at("https://hub.example/a");
        for same in ["https://HUB.example:443/b", "https://hub.example"] {
            assert!(hub.is_beside(&at(same)), "{same}");
        }
        for other in
            ["http://hub.example", "https://hub.example:444", "https://hub.example.org", "https://x.hub.example"]
        {
            assert!(!hub.is_beside(&at(other)), "{other}");
        }
        assert!(hub.is_exposed_by(&at("http://hub.example")) && !at("http://h").is_exposed_by(&hub));
    }

    #[test]
    fn redirects_lead_to_paths_hosts_and_addresses() {
        let hub = Address::parse("https://hub.example:8/a/b?c").unwrap();
        let leads = |location| hub.follow(location).map(|to| to.0.to_string());
        assert_eq!(leads("/x?y").as_deref(), Some("https://hub.example:8/x?y"));
        assert_eq!(leads("//cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        assert_eq!(leads("http://cdn.example/x").as_deref(), Some("http://cdn.example/x"));
        for wrong in ["file:///etc/passwd", "ftp://a/b", "", "x/y", "https://"] {
            assert_eq!(leads(wrong), None, "{wrong}");
        }
    }
}
