//! Keys from the file that AWS's own tools read.

use std::path::PathBuf;

use configparser::ini::{Ini, IniDefault};
use ops_core::Secret;

use crate::error::{Error, ErrorKind};

/// What a profile of the shared credentials file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub key: String,
    pub secret: Secret,
    pub token: Option<Secret>,
    pub region: Option<String>,
}

/// The profile `AWS_PROFILE`, or `default`, of `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`;
/// none where the environment has keys or a web identity, which come first
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>), and where nothing
/// names a profile and there is none.
///
/// # Errors
/// If the profile that the environment names is not there, or has no keys.
pub(crate) fn profile(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Profile>, Error> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    if ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"].iter().any(|n| given(n).is_some()) {
        return Ok(None);
    }
    let file = given("AWS_SHARED_CREDENTIALS_FILE");
    let usual = || Some(PathBuf::from(given("HOME")?).join(".aws/credentials"));
    let Some(path) = file.as_ref().map(PathBuf::from).or_else(usual) else { return Ok(None) };
    let named = given("AWS_PROFILE");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && file.is_none()
                && named.is_none() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("read the keys in", &path, error)),
    };
    let refuse = |why: String| {
        let message = format!("`{}` {why}", path.display());
        Error::new(ErrorKind::InvalidInput, message).remedy(
            "give the keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with \
             `aws_access_key_id` and `aws_secret_access_key` in AWS_PROFILE",
        )
    };
    // A secret may have any other character.
    let mut syntax = IniDefault::default();
    syntax.delimiters = vec!['='];
    syntax.inline_comment_symbols = Some(Vec::new());
    syntax.case_sensitive = true;
    let mut ini = Ini::new_from_defaults(syntax);
    // What the parser says may hold a line of the file.
    ini.read(text).map_err(|_| refuse("is no file of profiles".to_owned()))?;
    let name = named.as_deref().unwrap_or("default");
    let get = |key| ini.get(name, key).filter(|value| !value.is_empty());
    let (Some(key), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) else {
        if named.is_none() {
            return Ok(None);
        }
        let mut there: Vec<_> = ini.sections();
        there.sort();
        let why = if there.iter().any(|section| section == name) {
            format!("has no keys for profile `{name}`")
        } else {
            format!("has no profile `{name}`, only {}", there.join(", "))
        };
        return Err(refuse(why));
    };
    let (secret, token) = (Secret::new(secret), get("aws_session_token").map(Secret::new));
    let region = get("region")
        .filter(|_| ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().all(|name| given(name).is_none()));
    Ok(Some(Profile { key, secret, token, region }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FILE: &str = "# ours\n[default]\naws_access_key_id = AK1\naws_secret_access_key=a/b+c#d;e:f=\n\n\
        [backup]\nregion = eu-north-1\naws_access_key_id=AK2\naws_secret_access_key = s\n\
        aws_session_token = t\n[role]\nrole_arn = arn:aws:iam::1:role/x\n";

    #[test]
    fn keys_are_found_as_the_tools_of_aws_find_them() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let path = home.path().join(".aws/credentials");
        let ask = |variables: &[(&str, &str)]| {
            let mut all: BTreeMap<_, _> = variables.iter().copied().collect();
            all.entry("HOME").or_insert(home.path().to_str().unwrap());
            profile(|name| all.get(name).map(|value| (*value).to_owned()))
        };
        assert_eq!(ask(&[]).unwrap(), None, "no file, and nobody asked for one");
        let error = ask(&[("AWS_PROFILE", "backup")]).unwrap_err();
        assert!(error.to_string().contains(".aws/credentials"), "{error}");
        assert!(ask(&[("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")]).is_err());

        std::fs::write(&path, FILE).unwrap();
        let found = ask(&[]).unwrap().unwrap();
        assert_eq!((&*found.key, found.secret.expose()), ("AK1", "a/b+c#d;e:f="));
        assert_eq!((found.token, found.region), (None, None));
        let found = ask(&[("AWS_PROFILE", "backup")]).unwrap().unwrap();
        assert_eq!((&*found.key, found.secret.expose()), ("AK2", "s"));
        assert_eq!(found.token.unwrap().expose(), "t");
        assert_eq!(found.region.as_deref(), Some("eu-north-1"));
        let found = ask(&[("AWS_PROFILE", "backup"), ("AWS_REGION", "x")]).unwrap().unwrap();
        assert_eq!(found.region, None);
        let elsewhere =
            [("HOME", "/nowhere"), ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap())];
        assert_eq!(ask(&elsewhere).unwrap().unwrap().key, "AK1");
        assert_eq!(
            ask(&[("AWS_ACCESS_KEY_ID", "x")]).unwrap(),
            None,
            "the environment comes first"
        );
        assert_eq!(ask(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "x")]).unwrap(), None);
        for (name, why) in [("role", "has no keys"), ("none", "only backup, default, role")] {
            let error = ask(&[("AWS_PROFILE", name)]).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("a/b+c"), "{error}");
        }
        std::fs::write(&path, "[role]\nrole_arn = x\n").unwrap();
        assert_eq!(ask(&[]).unwrap(), None);
        std::fs::write(&path, "[default\naws_secret_access_key = hidden\n").unwrap();
        let error = ask(&[]).unwrap_err();
        let said = ops_core::error::chain(&error).join(": ");
        assert!(said.contains("is no file of profiles") && !said.contains("hidden"), "{said}");
    }
}
