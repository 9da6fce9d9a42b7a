//! The figures: what was measured, and what was promised.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value};

/// How many characters of a reason the table shows. The whole reason is printed before.
const MOST_SAID: usize = 100;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Nothing was promised.
    None,
}

/// One figure.
struct Figure {
    name: &'static str,
    measured: Result<f64, String>,
    budget: Budget,
}

/// All figures, in the order in which they were measured.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Takes a figure, and prints it.
    pub fn add(&mut self, name: &'static str, measured: f64, budget: Budget) {
        println!("  {name}: {}", short(measured));
        self.0.push(Figure { name, measured: Ok(measured), budget });
    }

    /// Notes that figures could not be measured, and why.
    pub fn missed(&mut self, figures: &[(&'static str, Budget)], error: &anyhow::Error) {
        println!("  not measured: {error:#}");
        for (name, budget) in figures {
            if !self.0.iter().any(|f| f.name == *name) {
                self.0.push(Figure { name, measured: Err(format!("{error:#}")), budget: *budget });
            }
        }
    }

    /// Prints the table.
    pub fn print(&self) {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED).set_header(["figure", "measured", "budget", ""]);
        for figure in &self.0 {
            let (measured, verdict) = match (&figure.measured, figure.budget) {
                (Err(why), _) => ("not measured".to_owned(), why.chars().take(MOST_SAID).collect()),
                (Ok(value), Budget::None) => (short(*value), String::new()),
                (Ok(value), Budget::AtMost(limit)) => (short(*value), verdict(*value <= limit)),
                (Ok(value), Budget::AtLeast(limit)) => (short(*value), verdict(*value >= limit)),
            };
            let budget = match figure.budget {
                Budget::AtMost(limit) => format!("<= {}", short(limit)),
                Budget::AtLeast(limit) => format!(">= {}", short(limit)),
                Budget::None => String::new(),
            };
            table.add_row([figure.name.to_owned(), measured, budget, verdict]);
        }
        println!("{table}");
    }

    /// Writes them as one flat object. A figure that was not measured is null.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let all: Map<String, Value> =
            self.0.iter().map(|f| (f.name.to_owned(), f.measured.as_ref().map_or(Value::Null, |v| rounded(*v).into()))).collect();
        std::fs::write(path, serde_json::to_vec_pretty(&all)?).with_context(|| path.display().to_string())
    }
}

fn verdict(kept: bool) -> String {
    if kept { "kept" } else { "exceeded" }.to_owned()
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The median.
pub fn median(mut values: Vec<f64>) -> anyhow::Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}
