//! The templates: the machinery that kernels of all variants share, as reviewed CUDA text in `templates/`.
//!
//! A line that starts with `//%` is a statement of the template language (minijinja), `@{ ... }` is replaced; everything else
//! is CUDA. An undefined name is an error, so a template cannot silently lose a part.

use std::sync::OnceLock;

use minijinja::{Environment, UndefinedBehavior, Value};

const TEMPLATES: &[(&str, &str)] = &[
    ("prelude_common", include_str!("templates/prelude_common.cu")),
    ("prelude_half", include_str!("templates/prelude_half.cu")),
    ("prelude_float", include_str!("templates/prelude_float.cu")),
    ("prelude_hopper", include_str!("templates/prelude_hopper.cu")),
    ("tensors", include_str!("templates/tensors.cu")),
    ("ranges", include_str!("templates/ranges.cu")),
    ("tiles", include_str!("templates/tiles.cu")),
    ("query_tile", include_str!("templates/query_tile.cu")),
    ("key_tiles", include_str!("templates/key_tiles.cu")),
    ("forward", include_str!("templates/forward.cu")),
    ("rows", include_str!("templates/rows.cu")),
    ("forward_hopper", include_str!("templates/forward_hopper.cu")),
    ("forward_hopper_copies", include_str!("templates/forward_hopper_copies.cu")),
    ("forward_hopper_walk", include_str!("templates/forward_hopper_walk.cu")),
    ("forward_hopper_keys", include_str!("templates/forward_hopper_keys.cu")),
    ("forward_hopper_weigh", include_str!("templates/forward_hopper_weigh.cu")),
    ("rows_visits", include_str!("templates/rows_visits.cu")),
    ("rows_weights", include_str!("templates/rows_weights.cu")),
    ("forward_hopper_work", include_str!("templates/forward_hopper_work.cu")),
    ("rows_hopper", include_str!("templates/rows_hopper.cu")),
    ("rows_exact", include_str!("templates/rows_exact.cu")),
    ("rows_walk", include_str!("templates/rows_walk.cu")),
    ("rows_scores", include_str!("templates/rows_scores.cu")),
    ("rows_queries", include_str!("templates/rows_queries.cu")),
    ("rows_tiles", include_str!("templates/rows_tiles.cu")),
    ("rows_entmax", include_str!("templates/rows_entmax.cu")),
    ("rows_entmax_candidates", include_str!("templates/rows_entmax_candidates.cu")),
    ("rows_entmax_passes", include_str!("templates/rows_entmax_passes.cu")),
    ("rows_top_k_candidates", include_str!("templates/rows_top_k_candidates.cu")),
    ("rows_top_k_passes", include_str!("templates/rows_top_k_passes.cu")),
    ("sequence_maps", include_str!("templates/sequence_maps.cu")),
    ("prelude_maps", include_str!("templates/prelude_maps.cu")),
    ("backward_hopper", include_str!("templates/backward_hopper.cu")),
    ("walk", include_str!("templates/walk.cu")),
    ("backward_writer", include_str!("templates/backward_writer.cu")),
    ("backward_step", include_str!("templates/backward_step.cu")),
    ("backward_wide_step", include_str!("templates/backward_wide_step.cu")),
    ("backward_loader", include_str!("templates/backward_loader.cu")),
    ("backward_work", include_str!("templates/backward_work.cu")),
    ("gradient_loader", include_str!("templates/gradient_loader.cu")),
    ("gradient_work", include_str!("templates/gradient_work.cu")),
    ("query_warps", include_str!("templates/query_warps.cu")),
    ("diagonals", include_str!("templates/diagonals.cu")),
    ("gradient_hopper", include_str!("templates/gradient_hopper.cu")),
    ("query_gradients", include_str!("templates/query_gradients.cu")),
    ("backward_q", include_str!("templates/backward_q.cu")),
    ("backward_kv", include_str!("templates/backward_kv.cu")),
    ("delta", include_str!("templates/delta.cu")),
    ("extremes", include_str!("templates/extremes.cu")),
    ("live_keys", include_str!("templates/live_keys.cu")),
    ("table", include_str!("templates/table.cu")),
    ("feature", include_str!("templates/feature.cu")),
    ("group_sum", include_str!("templates/group_sum.cu")),
    ("linear_tiles", include_str!("templates/linear_tiles.cu")),
    ("linear_common", include_str!("templates/linear_common.cu")),
    ("linear_positions", include_str!("templates/linear_positions.cu")),
    ("linear_columns", include_str!("templates/linear_columns.cu")),
    ("linear_update", include_str!("templates/linear_update.cu")),
    ("linear_state", include_str!("templates/linear_state.cu")),
    ("linear_prefix", include_str!("templates/linear_prefix.cu")),
    ("linear_walk", include_str!("templates/linear_walk.cu")),
    ("linear_parameters", include_str!("templates/linear_parameters.cu")),
    ("dense", include_str!("templates/dense.cu")),
];

/// The kernel that copies misaligned tensors; the same for all variants.
pub(crate) const COPY: &str = include_str!("templates/copy.cu");

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder()
            .block_delimiters("@%", "%@")
            .variable_delimiters("@{", "}")
            .comment_delimiters("@#", "#@")
            .line_statement_prefix("//%")
            .build()
            .expect("the delimiters are distinct");
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        for (name, text) in TEMPLATES {
            environment.add_template(name, text).expect("the templates are well formed");
        }
        environment
    })
}

/// Fills a template.
///
/// # Panics
/// When the context lacks a name that the template uses: a mistake in this crate that every generation test would meet.
pub(crate) fn render(name: &str, context: &Value) -> String {
    let template = environment().get_template(name).expect("a known template");
    let mut text = template.render(context).unwrap_or_else(|error| panic!("template {name}: {error:#}"));
    text.push('\n'); // the template language drops the last one
    text
}
