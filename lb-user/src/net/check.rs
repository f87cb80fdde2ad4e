//! A configuration checked as a whole: against itself, and against this network namespace.

use anyhow::{Context, Result};
use lb_core::config::{self, Checked, Problem, check_host};

use super::facts::host_facts;

/// Reads a configuration and compares it with this network namespace. The inner error is everything wrong with it, in
/// the order of the file: what is wrong with the text does not hide what does not fit the machine.
///
/// # Errors
/// The kernel does not tell about interfaces and routes.
pub async fn check_here(text: &str) -> Result<Result<Checked, Vec<Problem>>> {
    let parsed = config::parse(text);
    let readable = match &parsed {
        Ok(checked) => Some(checked.config.clone()),
        Err(_) => config::readable_part(text),
    };
    let mut here = Vec::new();
    if let Some(config) = readable {
        let facts = host_facts(&config).await.context("cannot look at interfaces and routes")?;
        here = check_host(&config, text, &facts);
    }
    Ok(match parsed {
        Ok(checked) if here.is_empty() => Ok(checked),
        Ok(_) => Err(here),
        Err(mut problems) => {
            problems.extend(here);
            problems.sort_by_key(|problem| problem.line.unwrap_or(0));
            Err(problems)
        }
    })
}

/// [`check_here`] for a caller without a runtime.
///
/// # Errors
/// As of [`check_here`], or a runtime cannot be made.
pub fn check_here_blocking(text: &str) -> Result<Result<Checked, Vec<Problem>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime to ask the kernel with")?;
    runtime.block_on(check_here(text))
}
