//! What can be wrong with a model folder.

use altclip_report::{Code, Diagnose, Report, quote};

/// An error of a model: its configuration, its weights, or its computation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `config.json` is not JSON of the expected form.
    #[error("config.json is not valid")]
    ConfigSyntax(#[source] serde_json::Error),
    /// A field of `config.json` has a value that no model can have, or one that the weights
    /// contradict.
    #[error("`{field}` is {value}, allowed: {allowed}")]
    ConfigField {
        /// Dotted name of the field.
        field: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// `model_type` names no family that this program knows.
    #[error("model family {0} is not supported")]
    Family(String),
    /// The folder holds only one tower and the other was asked for.
    #[error("the model has no {0}")]
    NoTower(&'static str),
    /// One row for a picture or text was asked of a model that compares tokens.
    #[error("this model compares tokens; it has no single row for a picture or text")]
    TokenWise,
    /// Several faults of one model, all of them listed.
    #[error("{} faults", .0.len())]
    Problems(Vec<Error>),
    /// The weight files.
    #[error(transparent)]
    Checkpoint(#[from] altclip_checkpoint::Error),
    /// The computation.
    #[error(transparent)]
    Tensor(#[from] altclip_tensor::Error),
    /// More tokens than the position table has rows.
    #[error("a text of {found} tokens, the model has positions for {limit}")]
    TooManyTokens {
        /// Tokens of the text.
        found: usize,
        /// Positions of the model.
        limit: usize,
    },
}

impl Diagnose for Error {
    fn report(&self) -> Report {
        let message = self.to_string();
        match self {
            Error::ConfigSyntax(source) => {
                Report::new(Code::E2301, "config", format!("{message}: {source}"))
                    .place("config.json")
                    .help("take config.json from the same place as the weights")
            }
            Error::ConfigField { field, value, allowed } => {
                Report::new(Code::E2301, "config", format!("`{field}` does not fit"))
                    .place("config.json")
                    .got(value)
                    .expected(allowed)
                    .help("check that config.json and the weights come from the same model")
            }
            Error::Family(name) => Report::new(Code::E2302, "config", message)
                .place("config.json, model_type")
                .got(quote(name))
                .expected("altclip, clip, chinese_clip, taiyi_clip, prd2, r2d2 or wukong")
                .help("this program runs AltCLIP, -m9, -m18, CLIP, CN-CLIP, Taiyi, PRD2, R2D2 and Wukong"),
            Error::NoTower(tower) => Report::new(Code::E2101, "model", message)
                .got(format!("a folder without {tower}"))
                .expected("a dual encoder")
                .help("use the folder of the whole model, not of one part"),
            Error::TokenWise => Report::new(Code::E2302, "model", message)
                .got("a model that compares token by token")
                .expected("a model with one row each")
                .help("use classify; in the library Model::compare and Model::zero_shot"),
            Error::Problems(problems) => match problems.first() {
                Some(first) => first.report(),
                None => Report::new(Code::E9001, "model", message),
            },
            Error::Checkpoint(error) => error.report(),
            Error::Tensor(error) => error.report(),
            Error::TooManyTokens { found, limit } => Report::new(Code::E3104, "text", message)
                .got(found.to_string())
                .expected(format!("at most {limit}"))
                .help("lower --max-length"),
        }
    }

    fn reports(&self) -> Vec<Report> {
        match self {
            Error::Problems(problems) => problems.iter().flat_map(Error::reports).collect(),
            Error::Checkpoint(error) => error.reports(),
            _ => vec![self.report()],
        }
    }
}
