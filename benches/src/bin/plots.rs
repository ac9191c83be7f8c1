//! Reads what criterion has measured, prints it as Markdown tables and draws `benches/plots/*.svg`.
//!
//! ```text
//! cargo bench -p benches
//! cargo run --release -p benches --bin plots
//! ```

use benches::duration;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The stores in the order of the tables, each with the colour of its line.
const STORES: [(&str, RGBColor); 13] = [
    (OURS, RGBColor(192, 0, 32)),
    ("floor", RGBColor(150, 150, 150)),
    ("concread", RGBColor(31, 90, 180)),
    ("ArcSwap<im>", RGBColor(230, 120, 20)),
    ("Mutex<im>", RGBColor(20, 150, 150)),
    ("RwLock<im>", RGBColor(50, 140, 50)),
    ("RwLock<HashMap>", RGBColor(160, 130, 20)),
    ("watch<Arc<HashMap>>", RGBColor(150, 80, 160)),
    ("origin", RGBColor(120, 80, 50)),
    ("left-right", RGBColor(215, 90, 150)),
    ("dashmap", RGBColor(90, 110, 200)),
    ("papaya", RGBColor(60, 60, 60)),
    ("scc", RGBColor(120, 160, 40)),
];
const OURS: &str = "state-dictionary";

/// Medians in nanoseconds: of a job (with its kind of values), by its number, by store.
type Figures = BTreeMap<String, BTreeMap<u32, BTreeMap<String, f64>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| package.join("../target"), PathBuf::from);
    let mut figures = Figures::new();
    collect(&target.join("criterion"), &mut figures)?;
    for (job, by_number) in &figures {
        print_table(job, by_number);
    }
    let plots = package.join("plots");
    fs::create_dir_all(&plots)?;
    for plot in plots_of(&figures) {
        plot.draw(&plots)?;
    }
    Ok(())
}

/// Full below a folder of criterion's.
fn collect(folder: &Path, figures: &mut Figures) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry?.path();
        if path.ends_with("new") {
            let read =
                |file| -> Result<Value, Box<dyn Error>> { Ok(serde_json::from_slice(&fs::read(path.join(file))?)?) };
            let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
            let (group, store) = (benchmark["group_id"].as_str(), benchmark["function_id"].as_str());
            let median = estimates["median"]["point_estimate"].as_f64();
            if let (Some(group), Some(store), Some(median)) = (group, store, median)
                && let Some((job, number)) = group.rsplit_once('/')
            {
                let by_number = figures.entry(job.to_owned()).or_default();
                by_number.entry(number.parse()?).or_default().insert(store.to_owned(), median);
            }
        } else if path.is_dir() {
            collect(&path, figures)?;
        }
    }
    Ok(())
}

fn print_table(job: &str, by_number: &BTreeMap<u32, BTreeMap<String, f64>>) {
    println!("\n`{job}`; in brackets, divided by this crate's:\n");
    let titles: Vec<_> = by_number.keys().map(|number| thousands(*number)).collect();
    println!("| | {} |\n|---|{}", titles.join(" | "), "---|".repeat(titles.len()));
    let measured: BTreeSet<&str> = by_number.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    // What only two can do is not a comparison of all.
    for (store, _) in STORES.iter().filter(|(store, _)| measured.contains(store) || measured.len() > 2) {
        let cell = |figures: &BTreeMap<String, f64>| match (figures.get(*store), figures.get(OURS)) {
            (Some(nanos), Some(ours)) if *store != OURS => format!(" {} ({:.2}) |", duration(*nanos), nanos / ours),
            (Some(nanos), _) => format!(" {} |", duration(*nanos)),
            (None, _) => " – |".to_owned(),
        };
        println!("| `{store}` |{}", by_number.values().map(cell).collect::<String>());
    }
}

fn thousands(number: u32) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

struct Plot<'f> {
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    tick: fn(f64) -> String,
    lines: Vec<Line<'f>>,
}

struct Line<'f> {
    store: &'f str,
    label: String,
    points: Vec<(u32, f64)>,
}

fn plots_of(figures: &Figures) -> Vec<Plot<'_>> {
    // The lines of one job, one for each store.
    let lines = |job: &str, suffix: &str, y: &dyn Fn(f64) -> f64| -> Vec<Line<'_>> {
        let mut by_store = BTreeMap::<&str, Vec<(u32, f64)>>::new();
        for (number, figures) in figures.get(job).into_iter().flatten() {
            for (store, nanos) in figures {
                by_store.entry(store).or_default().push((*number, y(*nanos)));
            }
        }
        let line = |(store, points)| Line { store, label: format!("{store}{suffix}"), points };
        by_store.into_iter().map(line).collect()
    };
    let nanos = |job| lines(job, "", &|nanos| nanos);
    let by_keys = |file, title, job| Plot { file, title, x: "keys", y: "time", tick: time, lines: nanos(job) };
    let millions = |job| lines(job, "", &|nanos| 1e3 / nanos);
    let by_threads = |file, title, job| Plot {
        file,
        title,
        x: "threads",
        y: "millions per second",
        tick: |millions| millions.to_string(),
        lines: millions(job),
    };
    let fan_out = [
        ("commit_asleep/small", ", asleep"),
        ("commit_at_30_hz/small", ", at 30 Hz"),
        ("commit_waking/small", ", waking"),
    ];
    vec![
        by_keys("commit", "Committing one key, one thread", "commit_1/small"),
        by_keys("get", "Getting one key, one thread", "get/small"),
        by_keys("snapshot", "Taking and dropping a snapshot, one thread", "snapshot/small"),
        by_threads("writers", "Commits of one key, 1,000 keys, all threads writing", "all_write/small"),
        by_threads(
            "writers_with_snapshots",
            "A snapshot, ten keys looked up, one key committed; 1,000 keys",
            "write_with_snapshot/small",
        ),
        Plot {
            file: "subscribers",
            title: "Committing one of 300 keys beside subscribers",
            x: "subscribers",
            y: "time",
            tick: time,
            lines: fan_out.iter().flat_map(|(job, suffix)| lines(job, suffix, &|nanos| nanos)).collect(),
        },
    ]
}

impl Plot<'_> {
    fn draw(&self, folder: &Path) -> Result<(), Box<dyn Error>> {
        const SIZE: (u32, u32) = (900, 560);
        const LABEL_HEIGHT: i32 = 15;
        let ticks: BTreeSet<u32> = self.lines.iter().flat_map(|line| &line.points).map(|(number, _)| *number).collect();
        let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
            eprintln!("not measured, not drawn: {}", self.file);
            return Ok(());
        };
        let ys = || self.lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
        let (low, high) = (ys().fold(f64::INFINITY, f64::min), ys().fold(0.0, f64::max));
        let (bottom, top) = (low / 1.5, high * 1.5);

        let file = folder.join(self.file).with_extension("svg");
        let root = SVGBackend::new(&file, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .margin_right(190)
            .x_label_area_size(44)
            .y_label_area_size(78)
            .build_cartesian_2d(place(*first)..place(*last), (bottom..top).log_scale())?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .axis_desc_style(("sans-serif", 15))
            .x_labels(0)
            .y_labels(0)
            .y_label_formatter(&|_| String::new())
            .draw()?;

        let text = |horizontal, vertical| ("sans-serif", 14).into_text_style(&root).pos(Pos::new(horizontal, vertical));
        for y in y_ticks(bottom, top) {
            let [(left, height), (right, _)] = [*first, *last].map(|number| chart.backend_coord(&(place(number), y)));
            root.draw(&PathElement::new([(left, height), (right, height)], RGBColor(215, 215, 215)))?;
            root.draw(&Text::new((self.tick)(y), (left - 8, height), text(HPos::Right, VPos::Center)))?;
        }
        // Those below are the numbers that were measured.
        for number in &ticks {
            let (x, y) = chart.backend_coord(&(place(*number), bottom));
            root.draw(&PathElement::new([(x, y), (x, y + 5)], BLACK))?;
            root.draw(&Text::new(thousands(*number), (x, y + 8), text(HPos::Center, VPos::Top)))?;
        }
        let mut labels = Vec::new();
        for line in &self.lines {
            let colour = STORES.iter().find(|(store, _)| *store == line.store).map_or(BLACK, |(_, colour)| *colour);
            let style = colour.stroke_width(if line.store == OURS { 4 } else { 2 });
            let points: Vec<_> = line.points.iter().map(|(number, y)| (place(*number), *y)).collect();
            if let Some(end) = points.last() {
                labels.push((chart.backend_coord(end), &line.label, colour));
            }
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            chart.draw_series(LineSeries::new(points, style))?;
        }
        // At the ends of the lines, moved apart where they would overlap.
        labels.sort_by_key(|((_, y), ..)| *y);
        let mut tops: Vec<i32> = labels.iter().map(|((_, y), ..)| y - LABEL_HEIGHT / 2).collect();
        for below in 1..tops.len() {
            tops[below] = tops[below].max(tops[below - 1] + LABEL_HEIGHT);
        }
        let mut lowest = chart.backend_coord(&(place(*last), bottom)).1 - LABEL_HEIGHT;
        for top in tops.iter_mut().rev() {
            *top = lowest.min(*top);
            lowest = *top - LABEL_HEIGHT;
        }
        for (((x, _), label, colour), top) in labels.into_iter().zip(tops) {
            root.draw(&Text::new(label.as_str(), (x + 10, top), ("sans-serif", 14).into_font().color(&colour)))?;
        }
        root.present()?;
        Ok(())
    }
}

/// Round numbers on a logarithmic axis: powers of ten, and if those are few, what lies between.
fn y_ticks(bottom: f64, top: f64) -> Vec<f64> {
    let steps: &[f64] = if top / bottom > 1_000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = (-3..12).flat_map(|exponent| steps.iter().map(move |step| step * 10_f64.powi(exponent)));
    all.filter(|tick| (bottom..top).contains(tick)).collect()
}

fn time(nanos: f64) -> String {
    duration(nanos).replace(".00", "").replace(".0", "")
}

/// Where a number is on a logarithmic axis that begins with zero.
fn place(number: u32) -> f64 {
    if number == 0 { -0.7 } else { f64::from(number).log10() }
}
