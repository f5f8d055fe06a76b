//! Declares a variant, runs it forward and backward on real activations, checks it and writes its CUDA source.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Needs nothing but Rust. With an NVIDIA driver it runs on the GPU, without one on the CPU. With NVRTC it also compiles the
//! source that it wrote, which takes no GPU.

use std::error::Error;
use std::path::{Path, PathBuf};

use attn::compiler::plan::{ElementType, Shape, Target};
use attn::compiler::{cuda, lower};
use attn::cuda::{Nvrtc, nvrtc};
use attn::{Attention, DType, Device, Parameters, Tensor, Variant, attention};
use comfy_table::{CellAlignment, Table, presets};
use safetensors::SafeTensors;

attention! {
    /// Scores capped smoothly, less a penalty that grows with distance; a sink may take weight from all keys.
    pub struct Quick {
        /// No score is larger than this.
        const cap: f32,
        /// The penalty of each head.
        slope: f32[h],
        /// The logit of each head's sink.
        sink: f32[h],
        score: |s, b, h, q, kv| cap * tanh(s / cap) - slope[h] * abs(q - kv),
        normalizer: sum + exp(sink[h]),
        mask: window(96, 96),
    }
}

/// Queries, keys and values of two heads of all-MiniLM-L6-v2; `data/README.md` says how they were taken.
static ACTIVATIONS: &[u8] = include_bytes!("data/minilm-layer2.safetensors");

fn main() -> Result<(), Box<dyn Error>> {
    let variant = Quick { cap: 20.0.into(), slope: [0.05, 0.01].into(), sink: [1.0, 0.0].into() };
    println!("The variant:\n\n{}", Quick::TEXT.trim());

    let (device, why) = Device::best_and_why();
    let why = why.map(|error| format!(", for no GPU can be used: {}", short(&error)));
    println!("\nThe device: {device}{}\n", why.unwrap_or_default());
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_header(["type", "tensor", "shape", "error", "allowed"]);
    let mut missed = 0;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for row in compare(&variant, &device, dtype)? {
            missed += usize::from(!row.passed());
            table.add_row([
                dtype.to_string(),
                row.tensor.clone(),
                format!("{:?}", row.shape),
                format!("{:.1e}{}", row.error, if row.passed() { "" } else { " MISSED" }),
                format!("{:.0e}", row.allowed),
            ]);
        }
    }
    for column in [3, 4] {
        table.column_mut(column).expect("five columns").set_cell_alignment(CellAlignment::Right);
    }
    println!(
        "{table}\nError: root mean square of the difference to the f64 oracle, relative to that of the oracle's values.\n"
    );

    let folder = output_folder();
    let files = write_sources(&folder, ElementType::Bf16, 32)?;
    println!("The CUDA source, bf16, head dimension 32, for {TARGET}:");
    for file in &files {
        println!("  {}", file.path.display());
    }
    match Nvrtc::load() {
        Ok(compiler) => println!("\n{}", compile(&files, &compiler)?),
        Err(error) => println!("\nIt was not compiled, which takes no GPU: {}", short(&error)),
    }
    if missed > 0 { Err(format!("{missed} tensors missed the allowed error").into()) } else { Ok(()) }
}

/// A reason without the list of places that were searched.
fn short(error: &dyn Error) -> String {
    let text = error.to_string();
    text.split(" Searched:").next().unwrap_or(&text).to_owned()
}

/// A tensor's distance from the oracle's.
struct Row {
    tensor: String,
    shape: Vec<usize>,
    error: f64,
    allowed: f64,
}

impl Row {
    fn new(tensor: &str, actual: &Tensor, expected: &Tensor, allowed: f64) -> Result<Row, attn::Error> {
        let (actual_values, expected) = (actual.to_f64_vec()?, expected.to_f64_vec()?);
        let square = |x: f64| x * x;
        let difference: f64 = actual_values.iter().zip(&expected).map(|(a, e)| square(a - e)).sum();
        let reference: f64 = expected.iter().map(|&e| square(e)).sum();
        let error = (difference / reference).sqrt();
        Ok(Row { tensor: tensor.into(), shape: actual.shape().to_vec(), error, allowed })
    }

    fn passed(&self) -> bool {
        self.error <= self.allowed
    }
}

/// Runs both passes on a device and on the oracle, and compares all that they return.
fn compare(variant: &impl Variant, device: &Device, dtype: DType) -> Result<Vec<Row>, Box<dyn Error>> {
    let [q, k, v] = ["q", "k", "v"].map(|name| activation(name, dtype));
    let (q, k, v) = (q?, k?, v?);
    // The gradient of a loss in the output: here the values themselves, as if the loss were sum(output * v).
    let output_grad = v.clone();
    let run = |device: &Device| -> Result<_, attn::Error> {
        let [q, k, v, output_grad] = [&q, &k, &v, &output_grad].map(|tensor| tensor.to_device(device));
        let (q, k, v, output_grad) = (q?, k?, v?, output_grad?);
        let parameters = variant.parameters().to_device(device)?;
        let attention = Attention::of(variant, device)?;
        let output = attention.forward(&q, &k, &v, &parameters)?;
        let gradients = attention.backward(&q, &k, &v, &parameters, &output, &output_grad, None)?;
        Ok((output.to_host()?, gradients.to_host()?))
    };
    let (output, gradients) = run(device)?;
    let (expected_output, expected) = run(&Device::Oracle)?;

    let (forward, backward) = if dtype == DType::F32 { (1e-5, 1e-4) } else { (4e-3, 8e-3) };
    let mut rows = vec![Row::new("o", &output.output, &expected_output.output, forward)?];
    if let (Some(actual), Some(expected)) = (&output.statistic, &expected_output.statistic) {
        rows.push(Row::new("lse", actual, expected, 1e-5)?);
    }
    rows.push(Row::new("dq", &gradients.q, &expected.q, backward)?);
    rows.push(Row::new("dk", &gradients.k, &expected.k, backward)?);
    rows.push(Row::new("dv", &gradients.v, &expected.v, backward)?);
    rows.extend(parameter_rows(&gradients.parameters, &expected.parameters, backward)?);
    Ok(rows)
}

fn parameter_rows(actual: &Parameters, expected: &Parameters, allowed: f64) -> Result<Vec<Row>, Box<dyn Error>> {
    let row = |(name, expected): (&str, &Tensor)| {
        let actual = actual.get(name).ok_or_else(|| format!("there is no gradient of `{name}`"))?;
        Ok(Row::new(&format!("d_{name}"), actual, expected, allowed)?)
    };
    expected.iter().map(row).collect()
}

fn activation(name: &str, dtype: DType) -> Result<Tensor, Box<dyn Error>> {
    let file = SafeTensors::deserialize(ACTIVATIONS)?;
    let tensor = file.tensor(name)?;
    Ok(Tensor::from_bytes(DType::F32, tensor.shape(), tensor.data())?.to_dtype(dtype)?)
}

/// `target/attn-quickstart`, beside the running program where Cargo put it, else in the folder of temporary files.
fn output_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.map_or_else(std::env::temp_dir, Path::to_path_buf).join("attn-quickstart")
}

const TARGET: Target = Target::Sm90a;

struct Source {
    path: PathBuf,
    text: String,
}

/// Writes the source of every kernel of both passes.
fn write_sources(folder: &Path, element: ElementType, head_dim: usize) -> Result<Vec<Source>, Box<dyn Error>> {
    let lowered = lower::lower(Quick::definition())?;
    let shape = Shape::new(element, head_dim, head_dim)?;
    let mut kernels = cuda::forward(&lowered, shape, TARGET)?;
    kernels.extend(cuda::backward(&lowered, shape, TARGET, true)?);
    std::fs::create_dir_all(folder)?;
    let write = |kernel: cuda::Kernel| {
        let path = folder.join(kernel.file_name);
        std::fs::write(&path, &kernel.source)?;
        Ok(Source { path, text: kernel.source })
    };
    kernels.into_iter().map(write).collect()
}

/// What NVRTC makes of the sources.
fn compile(files: &[Source], compiler: &Nvrtc) -> Result<String, Box<dyn Error>> {
    let (major, minor) = compiler.version();
    let mut report = format!("Compiled by NVRTC {major}.{minor} ({}):\n", compiler.path().display());
    for file in files {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        for usage in compiler.compile(&file.text, &name, &nvrtc::default_options(TARGET.name()))?.resources() {
            report += &format!("  {usage}\n");
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_device_agrees_with_the_oracle() {
        let variant = Quick { cap: 20.0.into(), slope: [0.05, 0.01].into(), sink: [1.0, 0.0].into() };
        for dtype in [DType::F32, DType::BF16] {
            let rows = compare(&variant, &Device::best(), dtype).unwrap();
            let names: Vec<&str> = rows.iter().map(|row| row.tensor.as_str()).collect();
            assert_eq!(names, ["o", "lse", "dq", "dk", "dv", "d_slope", "d_sink"]);
            rows.iter().for_each(|row| assert!(row.passed(), "{dtype} {}: {:e}", row.tensor, row.error));
        }
    }

    #[test]
    fn every_kernel_is_written_and_compiles() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_sources(folder.path(), ElementType::Bf16, 32).unwrap();
        assert!(files.len() >= 4, "forward, delta, and two kernels backward at least, not {}", files.len());
        for file in &files {
            assert_eq!(std::fs::read_to_string(&file.path).unwrap(), file.text);
        }
        let report = compile(&files, &attn::cuda::testing::nvrtc_for_tests()).unwrap();
        assert_eq!(report.matches(" registers").count(), files.len(), "{report}");
    }
}
