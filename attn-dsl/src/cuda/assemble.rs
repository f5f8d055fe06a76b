//! What all kernels of a variant share: names, the head comment, the prelude and the order of the parts.

use std::collections::HashSet;
use std::fmt::Write;

use minijinja::{Value, context};

use super::arguments::{Argument, Length, declare};
use super::mask::MaskBounds;
use super::names::Names;
use super::packed;
use super::relative::{self, Relatives};
use super::render::render;
use super::rows;
use super::values::{Place, Values, function};
use super::{Kernel, KernelKind};
use crate::definition::Definition;
use crate::ir::{Graph, Input, NodeId, Op, ParameterId, RANGE_ELEMENTS, SizeId};
use crate::lower::{Class, Lowered};
use crate::plan::{ElementType, HopperBackwardTiles, HopperTiles, Pass, Shape, Target, Tiles};

/// A variant on its way to source: its graph (which grows), its bounds and its names.
#[derive(Clone)]
pub(crate) struct Variant<'a> {
    pub(crate) lowered: &'a Lowered,
    pub(crate) graph: Graph,
    pub(crate) shape: Shape,
    pub(crate) target: Target,
    pub(crate) bounds: MaskBounds,
    pub(crate) names: Vec<String>,
    pub(crate) size_names: Vec<String>,
    /// What functions of pairs read by distance; none but where the schedule keeps such values.
    pub(crate) relatives: Relatives,
    /// Nodes that must have the same bits in every kernel.
    pub(crate) exact: HashSet<NodeId>,
}

impl<'a> Variant<'a> {
    pub(crate) fn new(lowered: &'a Lowered, shape: Shape, target: Target) -> Self {
        let mut graph = lowered.graph.clone();
        let bounds = MaskBounds::of(&mut graph, lowered.mask);
        // kernels that read rows need both, whether the variant does or not
        graph.input(Input::Batch);
        graph.input(Input::Head);
        // members of the arguments' structure: the names of its other members are taken
        let mut names = Names::taking(&[
            "q",
            "k",
            "v",
            "q_map",
            "k_map",
            "v_map",
            "o_map",
            "o",
            "output_grad",
            "q_grad",
            "k_grad",
            "v_grad",
            "statistic",
            "delta",
            "statistic_grad",
            "shift",
            "sum",
            "max_weight",
            "sum_squares",
            "arg_max",
            "live_keys",
            "output_grad_map",
            "k_grad_map",
            "q_grad_map",
            "v_grad_map",
            "dq_sums",
            "dq_turns",
            "kv_head_group",
            "batches",
            "heads",
            "group",
            "q_len",
            "kv_len",
            "head_group",
            "works_taken",
            "states",
            "state_exponents",
            "state_in",
            "state_out",
            "query_sums",
            "key_sums",
            "segments",
            "segment_chunks",
            "column_segments",
            "scale",
        ]);
        packed::prepare(shape, &mut graph, &mut names);
        let row_names: Vec<String> = lowered.rows().iter().map(ToString::to_string).collect();
        names.take(&row_names.iter().map(String::as_str).collect::<Vec<_>>());
        let parameters = lowered.definition.parameters.iter().map(|parameter| names.unique(&parameter.name)).collect();
        let mut names = Names::default();
        let size_names = lowered.definition.sizes.iter().map(|size| names.unique(size)).collect();
        let relatives = Relatives::new();
        let exact = rows::exact_nodes(&graph, lowered);
        Variant { lowered, graph, shape, target, bounds, names: parameters, size_names, relatives, exact }
    }

    pub(crate) fn definition(&self) -> &Definition {
        &self.lowered.definition
    }

    /// A parameter's identifier in generated source.
    pub(crate) fn name_of(&self, id: ParameterId) -> &str {
        &self.names[id.0 as usize]
    }

    pub(crate) fn precise(&self) -> bool {
        self.shape.element() == ElementType::F32
    }

    /// Makes batch and head fields of `Tile`: a row's place in an array of rows is found from them.
    pub(crate) fn name_row_indices(&self, values: &mut Values<'_>) {
        self.name_inputs(values, &[(Input::Batch, "batch"), (Input::Head, "head")]);
    }

    pub(super) fn name_inputs(&self, values: &mut Values<'_>, inputs: &[(Input, &str)]) {
        for &(input, name) in inputs {
            let node = self.graph.ids().find(|id| *self.graph.op(*id) == Op::Input(input));
            values.named_field(node.expect("every variant's graph has its indices"), Place::Tile, name);
        }
    }

    /// Whether the number of live keys has no closed form and is counted by a kernel.
    pub(crate) fn counts_live_keys(&self) -> bool {
        self.lowered.needs_live_keys && self.bounds.residual
    }

    pub(crate) fn values(&self) -> Values<'_> {
        let mut values = Values::new(
            &self.graph,
            self.definition(),
            [&self.names, &self.size_names],
            self.precise(),
            self.shape.head_dim(),
            self.counts_live_keys(),
            (&self.relatives, &self.exact),
        );
        self.name_lengths(&mut values);
        values
    }

    pub(crate) fn class_name(&self) -> &'static str {
        match self.lowered.class {
            Class::Elementwise => "elementwise",
            Class::Streaming => "streaming",
            Class::ShiftedExponential => "shifted",
        }
    }

    /// Whether a function of pairs reads parameters that vary by pair; `is_given` says what it does not compute itself.
    fn reads_parameters(&self, roots: &[NodeId], is_given: impl Fn(NodeId) -> bool) -> bool {
        let mut stack = roots.to_vec();
        let mut seen = std::collections::HashSet::new();
        while let Some(id) = stack.pop() {
            let rate = self.graph.rate(id);
            if rate.is_row() || rate.is_column() || is_given(id) || !seen.insert(id) {
                continue;
            }
            if matches!(self.graph.op(id), Op::Parameter { .. }) {
                return true;
            }
            stack.extend(self.graph.op(id).operands());
        }
        false
    }

    /// The parameters that `roots` read.
    pub(crate) fn parameters_of(&self, roots: &[NodeId]) -> Vec<ParameterId> {
        let mut found: Vec<ParameterId> = self
            .graph
            .reachable(roots)
            .into_iter()
            .filter_map(|id| match self.graph.op(id) {
                Op::Parameter { parameter, .. } => Some(*parameter),
                _ => None,
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Parameter, length and scale members for `roots` and the mask.
    pub(crate) fn common_arguments(&self, roots: &[NodeId]) -> Vec<Argument> {
        let mut roots = roots.to_vec();
        roots.extend(self.lowered.mask);
        let mut members: Vec<Argument> = self.parameters_of(&roots).into_iter().map(Argument::Parameter).collect();
        members.extend(self.length_members());
        for (index, _) in self.definition().sizes.iter().enumerate() {
            let id = u32::try_from(index).expect("few sizes");
            if roots.iter().any(|&root| self.graph.any(root, |op| *op == Op::Input(Input::Size(SizeId(id))))) {
                members.push(Argument::Length(Length::Size(id)));
            }
        }
        members.push(Argument::Scale);
        members
    }

    /// What `is_live` and the bounds need.
    pub(crate) fn demand_mask(&self, values: &mut Values<'_>) {
        if let Some(mask) = self.lowered.mask {
            values.demand(mask, &[]);
        }
        self.demand_bounds(values);
    }

    /// What the bounds need.
    pub(crate) fn demand_bounds(&self, values: &mut Values<'_>) {
        for bound in self.bounds.expressions() {
            values.demand(bound, &[]);
        }
    }

    pub(crate) fn mask_function(&self, values: &Values<'_>) -> String {
        let Some(mask) = self.lowered.mask else { return String::new() };
        let (statements, roots) = values.body(&[mask], &[]);
        let arguments = if self.mask_arguments().is_empty() { "" } else { "const Arguments& arguments, " };
        let signature = format!("bool is_live({arguments}const Tile& tile, const Query& query, const Key& key)");
        function(&signature, &statements, &roots[0])
    }

    /// `arguments, ` where `is_live` takes them.
    pub(crate) fn mask_arguments(&self) -> &'static str {
        match self.lowered.mask {
            Some(mask) if self.reads_parameters(&[mask], |_| false) => "arguments, ",
            _ => "",
        }
    }

    /// A function of a pair. `products` are the names of the data that it is given.
    pub(crate) fn pair_function(
        &self,
        values: &Values<'_>,
        result: &str,
        name: &str,
        roots: &[NodeId],
        with_grad: bool,
    ) -> String {
        let given = [(Input::Product, "product"), (Input::OutputGradProduct, "output_grad_product")];
        let (statements, texts) = values.body_of_pair(roots, &given);
        let arguments = if self.pair_arguments(roots).is_empty() { "" } else { "const Arguments& arguments, " };
        let products = if with_grad { "float product, float output_grad_product" } else { "float product" };
        let value = if result == "float" { texts[0].clone() } else { format!("{{{}}}", texts.join(", ")) };
        let relative = relative::parameter(&statements, &value);
        let signature = format!(
            "{result} {name}({arguments}{products}, const Tile& tile, const Query& query, const Key& key{relative})"
        );
        function(&signature, &statements, &value)
    }

    /// `arguments, ` where a pair function over these roots takes them.
    pub(crate) fn pair_arguments(&self, roots: &[NodeId]) -> &'static str {
        self.pair_arguments_beside(roots, None)
    }

    /// The same of a function that is given the value of a node.
    pub(crate) fn pair_arguments_beside(&self, roots: &[NodeId], given: Option<NodeId>) -> &'static str {
        // what is read by distance is not computed by the function
        let is_given = |id| Some(id) == given || self.relatives.contains_key(&id);
        if self.reads_parameters(roots, is_given) { "arguments, " } else { "" }
    }

    /// The variant's own part: arguments, structures, loaders, bounds and functions. `pairs_masked` says whether the kernel asks
    /// of a pair if it is live.
    pub(crate) fn own_part(
        &self,
        values: &Values<'_>,
        members: &mut [Argument],
        functions: &str,
        pairs_masked: bool,
    ) -> String {
        let mut text = declare(self.definition(), [&self.names, &self.size_names], members);
        for place in [Place::Tile, Place::Query, Place::Key] {
            text.push_str(&values.declare(place));
        }
        let relative = values.count(Place::Relative) > 0;
        if relative {
            text.push_str(&values.declare(Place::Relative));
        }
        text.push('\n');
        text.push_str(&values.loader(Place::Tile));
        text.push_str(&self.bounds.functions(values));
        if values.reads(Input::LiveKeys) && !self.counts_live_keys() {
            text.push_str(&self.live_key_count(values));
        }
        text.push_str(&values.loader(Place::Query));
        text.push_str(&values.loader(Place::Key));
        if relative {
            text.push_str(&values.loader(Place::Relative));
        }
        if pairs_masked {
            text.push_str(&self.mask_function(values));
        }
        text.push_str(functions);
        text
    }

    /// The function that counts the live keys of a row by the mask's bounds.
    pub(crate) fn live_key_count(&self, values: &Values<'_>) -> String {
        function(
            "int live_key_count(const Arguments& arguments, const Tile& tile, int q)",
            &["const Range range = live_keys_of(arguments, tile, q, q + 1);".to_owned()],
            &format!("max(0, min(range.end, {}.kv_len) - max(range.begin, 0))", values.lengths_of()),
        )
    }

    /// Constants of the tiles of a pass.
    pub(crate) fn constants(&self, pass: Pass, tiles: &Tiles, key_fields: usize, query_fields: usize) -> String {
        let (head, value) = (self.shape.head_row_bytes(), self.shape.value_row_bytes());
        let mut text = String::from("// ---------------------------------------------------------------- shape\n");
        let mut line =
            |declaration: String| writeln!(text, "constexpr int {declaration};").expect("writing to a string");
        line(format!("HEAD_DIM = {}, VALUE_DIM = {}", self.shape.head_dim(), self.shape.value_dim()));
        line(format!("BLOCK_Q = {}, BLOCK_KV = {}, STAGES = {}", tiles.block_q, tiles.block_kv, tiles.stages));
        line(format!("WARPS = {}, THREADS = 32 * WARPS, ROW_TILES = {}", tiles.warps, tiles.row_tiles));
        line(format!("Q_TILE_BYTES = BLOCK_Q * {head}, DO_TILE_BYTES = BLOCK_Q * {value}"));
        line(format!("K_TILE_BYTES = BLOCK_KV * {head}, V_TILE_BYTES = BLOCK_KV * {value}"));
        if tiles.column_warps > 1 {
            line(format!("COLUMN_WARPS = {}, WARP_COLUMNS = BLOCK_Q / COLUMN_WARPS", tiles.column_warps));
            line("ROW_FRAGMENT_BYTES = BLOCK_Q / 16 * ROW_TILES * 1024".to_owned());
        } else if matches!(pass, Pass::BackwardKv | Pass::BackwardK | Pass::BackwardV) {
            line("WARP_COLUMNS = BLOCK_Q".to_owned());
        }
        if key_fields > 0 {
            line(format!("KEY_RING_BYTES = BLOCK_KV * {}", 4 * key_fields));
        }
        if query_fields > 0 {
            line(format!("QUERY_RING_BYTES = BLOCK_Q * {}", 4 * query_fields));
        }
        text
    }

    /// Head, prelude, constants, tiles, the variant's part and the machinery, in this order.
    pub(crate) fn source(
        &self,
        template: &str,
        summary: &str,
        constants: &str,
        own: &str,
        mut machine: Value,
        machinery: Machinery<'_>,
    ) -> String {
        machine = self.with_rows(machine);
        let body = render(template, &machine);
        let texts = [own, &body];
        let all = texts.concat();
        let needs = |name: &str| all.contains(name);
        let float = self.precise();
        let tiles = if let Machinery::Portable(tiles) = machinery { Some(tiles) } else { None };
        let keys_first = template == "backward_kv" && !self.exact.is_empty();
        let is_linear = matches!(machinery, Machinery::Linear);
        let is_hopper = !matches!(machinery, Machinery::Plain | Machinery::Portable(_) | Machinery::Linear);
        let flags = context! {
            log2_approx => needs("log2_approx(") || (needs("softplus(") && !float),
            reciprocal_approx => needs("reciprocal_approx(") || (needs("sigmoid(") && !float),
            divide_approx => needs("divide_approx("),
            tanh_approx => needs("tanh_approx("),
            sigmoid => needs("sigmoid("),
            softplus => needs("softplus("),
            divide_or_zero => needs("divide_or_zero("),
            remainder_or_zero => needs("remainder_or_zero("),
            clamp_index => needs("clamp_index(") || needs("extremes_of(") || needs("extremes_in("),
            extremes_of => needs("extremes_of("),
            extremes_in => needs("extremes_in("),
            load_shared_float => needs("load_shared_float(") || (float && (is_linear || tiles.is_some())),
            load_shared_floats => needs("load_shared_floats(") || (float && (is_linear || tiles.is_some())),
            load_shared_int => needs("load_shared_int("),
            load_shared_ints => needs("load_shared_ints("),
            store_shared => needs("store_shared("),
            to_float => needs("to_float(") || (is_linear && !float),
            quad_max => needs("quad_max("),
            quad_sum => needs("quad_sum("),
            quad_any => needs("quad_any("),
            warp_sum => needs("warp_sum("),
            uniform => needs("uniform("),
            forget => needs("forget("),
            pack => needs("pack(") || is_hopper || ((is_linear || tiles.is_some()) && !float),
            share_fragment => needs("share_fragment("),
            load_matrix => needs("load_matrix_x4("),
            group_barrier => needs("group_barrier("),
            depth_fragments => is_linear,
            Partial => needs("Partial{}"),
            find_tile => needs("find_tile<"),
            Array => needs("Array<"),
            Scalar => needs("Array<float, 0>") || needs("Array<int, 0>"),
            DenseGrad => needs("DenseGrad "),
        };
        let q_in_registers = all.contains("q_fragments");
        let column_warps = tiles.map_or(1, |tiles| tiles.column_warps);
        let (head_columns, value_columns) = (self.shape.padded_head_dim(), self.shape.padded_value_dim());
        // columns of scores, of products with weights, and of dq
        let (tile_columns, weight_columns, dq_columns) = match machinery {
            Machinery::Hopper(tiles) => (tiles.block_kv, vec![value_columns], 0),
            Machinery::HopperBackward(tiles, _) if head_columns == value_columns || !tiles.with_values => {
                (tiles.block_q, vec![head_columns], tiles.dq_columns)
            }
            Machinery::HopperBackward(tiles, _) => (tiles.block_q, vec![head_columns, value_columns], tiles.dq_columns),
            Machinery::HopperGradient([tile, result]) => (tile, vec![result], 0),
            Machinery::HopperRows(tile) => (tile, vec![], 0),
            Machinery::Plain | Machinery::Portable(_) | Machinery::Linear => (0, vec![], 0),
        };
        machine = context! {
            needs => flags,
            range_elements => RANGE_ELEMENTS,
            dtype => self.shape.element().name(),
            packed => self.shape.is_packed(),
            q_in_registers,
            column_warps,
            hopper => is_hopper,
            tile_columns,
            weight_columns,
            dq_columns,
            keys_first,
            turns => matches!(machinery, Machinery::HopperBackward(_, true)),
            key_bias => matches!(machinery, Machinery::Hopper(tiles) if tiles.key_bias),
        };
        let tiled = tiles.is_some();
        let writes_maps = needs("write_map(");
        let mut text = self.head(summary);
        text.push_str(&render("prelude_common", &machine));
        if tiled || is_linear {
            text.push_str(&render(if float { "prelude_float" } else { "prelude_half" }, &machine));
        }
        if is_hopper {
            text.push_str(&render("prelude_hopper", &machine));
        }
        if writes_maps {
            text.push_str(&render("prelude_maps", &machine));
        }
        text.push('\n');
        text.push_str(constants);
        text.push('\n');
        text.push_str(&render("tensors", &machine));
        if tiled {
            text.push_str(&render("tiles", &machine));
        }
        if needs("Range ") {
            text.push_str(&render("ranges", &machine));
        }
        if !own.is_empty() {
            text.push_str("\n// ---------------------------------------------------------------- variant\n");
            text.push_str(own);
        }
        text.push('\n');
        text.push_str(&body);
        text
    }
}

/// What of the machinery a kernel is built on.
#[derive(Clone, Copy)]
pub(crate) enum Machinery<'a> {
    /// Nothing but the common primitives.
    Plain,
    /// Matrix fragments and chunks of its own.
    Linear,
    /// Tiles of the portable schedule.
    Portable(&'a Tiles),
    /// Tiles of the Hopper schedule.
    Hopper(&'a HopperTiles),
    /// Tiles of its backward pass, and whether they add to dq in order.
    HopperBackward(&'a HopperBackwardTiles, bool),
    /// A kernel of one gradient: columns of its tiles of scores and of the gradient.
    HopperGradient([usize; 2]),
    /// A kernel of rows: columns of its tiles of scores.
    HopperRows(usize),
}

/// The schedule, in one line of the head comment.
pub(crate) fn describe(pass: Pass, tiles: &Tiles, shared_memory: usize) -> String {
    format!(
        "{pass}, portable schedule, tile {} queries x {} keys, {} warps of {} x 16 rows, {} stage{}, {} KiB of shared memory, {} block{} a multiprocessor",
        tiles.block_q,
        tiles.block_kv,
        tiles.warps,
        tiles.row_tiles,
        tiles.stages,
        if tiles.stages == 1 { "" } else { "s" },
        shared_memory.div_ceil(1024),
        tiles.blocks_per_multiprocessor,
        if tiles.blocks_per_multiprocessor == 1 { "" } else { "s" },
    )
}

/// A name that says which kernel of which variant this is.
pub(crate) fn file_name(variant: &Variant<'_>, kernel: &str) -> String {
    let name: String =
        variant.definition().name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{name}_{kernel}_{}_{}.cu", variant.shape.to_string().replace(' ', "_"), variant.target)
}

/// A kernel that walks tiles.
#[allow(clippy::too_many_arguments, reason = "the parts of one kernel, each of its own type")]
pub(crate) fn kernel(
    variant: &Variant<'_>,
    entry: &'static str,
    name: &str,
    kind: KernelKind,
    source: String,
    variant_part: String,
    arguments: Vec<Argument>,
    (pass, planned): (Pass, Tiles),
) -> Kernel {
    Kernel {
        entry,
        kind,
        file_name: file_name(variant, name),
        source,
        variant_part,
        arguments,
        threads: 32 * planned.warps as u32,
        shared_memory: planned.shared_memory as u32,
        block_q: planned.block_q as u32,
        block_kv: planned.block_kv as u32,
        table_chunk: 0,
        persistent: false,
        tiles: Some((pass, planned)),
    }
}

/// How a tile's columns get their values: from shared memory, computed in place, or not at all.
pub(crate) struct Columns {
    pub(crate) staged: bool,
    pub(crate) inline: bool,
    pub(crate) snippet: String,
    /// Functions that keep them in shared memory.
    pub(crate) functions: String,
    /// 4-byte fields a column in shared memory.
    pub(crate) fields: usize,
}

impl Columns {
    /// Keys whose values are computed where they are read, whatever they read.
    pub(crate) fn in_place(values: &Values<'_>) -> Columns {
        Self::with(values, Place::Key, false, "0", "")
    }

    /// `stage` is the C++ expression of the ring's stage, `within` that of the warp's first column, with a plus behind.
    pub(crate) fn of(values: &Values<'_>, place: Place, stage: &str, within: &str) -> Columns {
        Self::with(values, place, values.is_staged(place), stage, within)
    }

    fn with(values: &Values<'_>, place: Place, staged: bool, stage: &str, within: &str) -> Columns {
        let inline = values.count(place) > 0 && !staged;
        let (structure, instance, first, ring, loads, loader, block) = match place {
            Place::Query => ("Query", "query", "first_q", "query_ring", "load_queries", "load_query", "BLOCK_Q"),
            _ => ("Key", "key", "first_kv", "key_ring", "load_keys", "load_key", "BLOCK_KV"),
        };
        let upper = if place == Place::Query { "QUERY_RING_BYTES" } else { "KEY_RING_BYTES" };
        let offset = if stage == "0" { String::new() } else { format!(" + {stage} * {upper}") };
        let snippet = if staged {
            format!(
                "{structure} {instance}[2];\n                {loads}({instance}, {ring}{offset}, {within}n * 8 + lane % 4 * 2);"
            )
        } else if inline {
            // a parameter that pairs read at this position must not be read past its end; all else there is merely unused
            let len = if place == Place::Query { "q_len" } else { "kv_len" };
            let load = |extra: &str| {
                let at = format!("{first} + 8 * n{extra}");
                let at = if values.pairs_read_at(place) || values.is_staged(place) {
                    format!("min({at}, {len} - 1)")
                } else {
                    at
                };
                format!("{loader}(arguments, tile, {at}, {first}_as_float + (8 * n{extra}))")
            };
            format!("const {structure} {instance}[2] = {{{}, {}}};", load(""), load(" + 1"))
        } else {
            format!("const {structure} {instance}[2] = {{}};")
        };
        let functions = if staged { values.column_functions(place, block) } else { String::new() };
        Columns { staged, inline, snippet, functions, fields: values.staged_fields(place) }
    }
}
