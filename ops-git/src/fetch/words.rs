//! Splits a configured command into words as a shell would, without one.

use crate::error::{Error, ErrorKind};

/// What a shell would act on outside of quotes.
const SHELL: &str = "|&;<>()$`*?[]{}!#~\n";

/// The words of a command line: quotes and backslashes are honoured, everything else that a shell
/// would do is refused.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a quote that does not end, for what needs a shell, and if there
/// is no word at all.
pub(super) fn words(setting: &str, line: &str) -> Result<Vec<String>, Error> {
    let refused = |what: String| {
        Error::new(ErrorKind::InvalidInput, format!("`{setting}`: {what}"))
            .remedy("no shell is started: put it into a script and name that")
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err(refused("a quote does not end".into())),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('\\') => match letters.next() {
                            Some(inner @ ('"' | '\\' | '$' | '`')) => word.push(inner),
                            Some(inner) => word.extend(['\\', inner]),
                            None => return Err(refused("a quote does not end".into())),
                        },
                        Some(inner @ ('$' | '`')) => {
                            return Err(refused(format!("`{inner}` needs a shell")));
                        }
                        Some(inner) => word.push(inner),
                        None => return Err(refused("a quote does not end".into())),
                    }
                }
            }
            '\\' => match letters.next() {
                Some(inner) => word.get_or_insert_default().push(inner),
                None => return Err(refused("it ends in a backslash".into())),
            },
            ' ' | '\t' => words.extend(word.take()),
            _ if SHELL.contains(letter) => {
                return Err(refused(format!("`{}` needs a shell", letter.escape_default())));
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if words.is_empty() {
        return Err(refused("it names no program".into()));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_by_a_shell_or_refused() {
        for (line, expected) in [
            ("ssh", vec!["ssh"]),
            ("  ssh -i  key -p 22 ", vec!["ssh", "-i", "key", "-p", "22"]),
            ("ssh -i '/home/a b/key'", vec!["ssh", "-i", "/home/a b/key"]),
            (r#""a \"b\" \n" '' c\ d"#, vec![r#"a "b" \n"#, "", "c d"]),
            ("-o'User=x y'z", vec!["-oUser=x yz"]),
        ] {
            assert_eq!(words("core.sshCommand", line).unwrap(), expected, "{line}");
        }
        for (line, says) in [
            ("", "names no program"),
            ("   ", "names no program"),
            ("ssh 'x", "does not end"),
            ("ssh \"x", "does not end"),
            ("ssh \\", "ends in a backslash"),
            ("ssh $KEY", "`$` needs a shell"),
            ("ssh \"$KEY\"", "`$` needs a shell"),
            ("ssh; rm x", "`;` needs a shell"),
            ("ssh -i ~/key", "`~` needs a shell"),
            ("a | b", "`|` needs a shell"),
        ] {
            let error = words("core.sshCommand", line).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("core.sshCommand"), "{line}: {error}");
        }
    }
}
