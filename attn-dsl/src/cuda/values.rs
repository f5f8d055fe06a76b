//! What is computed where: the values of a tile, of a query row and of a key column that pair expressions use.
//!
//! A function that runs once per pair may use anything that varies slower as a field of `Tile`, `Query` or `Key`. Asking for a
//! root ([`Values::demand`]) finds the largest subexpressions of each rate and makes them fields; loaders compute the fields.
//! A function of pairs may also use what depends on `kv - q` alone, where the schedule keeps it: fields of `Relative`.
//!
//! Invariants: a field's expression has exactly its place's rate or a slower one; constants are never fields; field order is
//! the order of demand, so that source is reproducible.

mod columns;
mod cost;

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::expression::{Emitter, type_name};
use super::names::{Names, comment};
use super::relative::Relatives;
use crate::definition::Definition;
use crate::ir::{
    Binary, Graph, Input, Names as PrintNames, NodeId, Op, Rate, Reduction, Type, Unary, print_expression_with,
};

/// A structure of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Tile,
    Query,
    Key,
    /// Of a distance `kv - q`.
    Relative,
}

impl Place {
    /// The name of an instance in generated functions.
    fn instance(self) -> &'static str {
        match self {
            Place::Tile => "tile",
            Place::Query => "query",
            Place::Key => "key",
            Place::Relative => "relative",
        }
    }

    fn structure(self) -> &'static str {
        match self {
            Place::Tile => "Tile",
            Place::Query => "Query",
            Place::Key => "Key",
            Place::Relative => "Relative",
        }
    }
}

#[derive(Clone, Debug)]
struct Field {
    node: NodeId,
    name: String,
    /// What the field is, as the variant has it.
    formula: NodeId,
}

/// The fields of the places, and what all emission shares.
pub(crate) struct Values<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) definition: &'a Definition,
    pub(crate) parameter_names: &'a [String],
    pub(crate) size_names: &'a [String],
    pub(crate) precise: bool,
    pub(crate) head_dim: usize,
    /// Whether `LiveKeys` is read from an array instead of computed from the mask's bounds.
    pub(crate) counted_live_keys: bool,
    /// Whether lengths are those of a sequence of a packed batch: fields of the tile.
    pub(crate) packed: bool,
    /// What functions of pairs may have as fields of `Relative`.
    relatives: &'a Relatives,
    /// Nodes that must have the same bits in every kernel.
    exact: &'a HashSet<NodeId>,
    /// Whether arms of a choice are computed before it.
    eager: bool,
    fields: HashMap<Place, Vec<Field>>,
    places: HashMap<NodeId, (Place, String)>,
    names: HashMap<Place, Names>,
    /// The roots of functions of their own.
    own: Vec<NodeId>,
    /// The fields of `Relative`: no other function than those of pairs knows them.
    relative_names: HashMap<NodeId, String>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        definition: &'a Definition,
        [parameter_names, size_names]: [&'a [String]; 2],
        precise: bool,
        head_dim: usize,
        counted_live_keys: bool,
        (relatives, exact, eager): (&'a Relatives, &'a HashSet<NodeId>, bool),
    ) -> Self {
        Values {
            graph,
            definition,
            parameter_names,
            size_names,
            precise,
            head_dim,
            counted_live_keys,
            packed: false,
            relatives,
            exact,
            eager,
            fields: HashMap::new(),
            places: HashMap::new(),
            names: HashMap::new(),
            own: vec![],
            relative_names: HashMap::new(),
        }
    }

    fn is_constant(&self, id: NodeId) -> bool {
        matches!(self.graph.op(id), Op::Float(_) | Op::Int(_) | Op::Bool(_) | Op::Input(Input::HeadDim))
    }

    /// Makes fields of what `root` needs, seen from a function of a pair that is given the `given` inputs.
    pub(crate) fn demand(&mut self, root: NodeId, given: &[Input]) {
        self.demand_from(root, given, false, None);
    }

    /// The same for a function that is also given `Relative`, and the value of a node if it is.
    pub(crate) fn demand_of_pair(&mut self, root: NodeId, given: Option<NodeId>) {
        self.demand_from(root, &[], true, given);
    }

    fn demand_from(&mut self, root: NodeId, given: &[Input], of_pair: bool, given_node: Option<NodeId>) {
        if self.is_constant(root) || self.places.contains_key(&root) || given_node == Some(root) {
            return;
        }
        if let Some(&at_distance) = self.relatives.get(&root).filter(|_| of_pair) {
            self.relative_field(root, at_distance);
            return;
        }
        let rate = self.graph.rate(root);
        let depends = self.graph.any(root, |op| matches!(op, Op::Input(input) if given.contains(input)));
        let place = if depends {
            None
        } else if rate.is_tile() {
            Some(Place::Tile)
        } else if rate.is_row() {
            Some(Place::Query)
        } else if rate.is_column() {
            Some(Place::Key)
        } else {
            None
        };
        match place {
            Some(place) => self.field(root, place),
            None => {
                for operand in self.graph.op(root).operands() {
                    self.demand_from(operand, given, of_pair, given_node);
                }
            }
        }
    }

    /// Makes `root` a field of a place under a name of the machinery's.
    pub(crate) fn named_field(&mut self, root: NodeId, place: Place, name: &str) {
        if let Some((_, old)) = self.places.get(&root).cloned() {
            let fields = self.fields.get_mut(&place).expect("a field has its place");
            fields.iter_mut().filter(|field| field.name == old).for_each(|field| field.name = name.to_owned());
            self.places.insert(root, (place, name.to_owned()));
            return;
        }
        self.demand_slower(root, place);
        self.places.insert(root, (place, name.to_owned()));
        self.fields.entry(place).or_default().push(Field { node: root, name: name.to_owned(), formula: root });
    }

    /// Makes fields of the tile of what [`Values::own_function`] needs.
    pub(crate) fn demand_own(&mut self, root: NodeId, place: Place) {
        if !self.graph.rate(root).is_tile() {
            self.demand_slower(root, place);
        } else if !self.is_constant(root) && !self.places.contains_key(&root) {
            self.field(root, Place::Tile);
        }
        self.own.push(root);
    }

    fn field(&mut self, root: NodeId, place: Place) {
        self.demand_slower(root, place);
        let name = self.unique_name(root, place);
        self.places.insert(root, (place, name.clone()));
        self.fields.entry(place).or_default().push(Field { node: root, name, formula: root });
    }

    fn relative_field(&mut self, root: NodeId, at_distance: NodeId) {
        if self.relative_names.contains_key(&root) {
            return;
        }
        self.demand_slower(at_distance, Place::Relative);
        let name = self.unique_name(root, Place::Relative);
        self.relative_names.insert(root, name.clone());
        self.fields.entry(Place::Relative).or_default().push(Field { node: at_distance, name, formula: root });
    }

    fn unique_name(&mut self, root: NodeId, place: Place) -> String {
        let wanted = self.field_name(root);
        let packed = self.packed;
        let taken = || {
            let taken = ["batch", "head", "exponent_scale", "score_scale", "q_len", "kv_len"];
            Names::taking(if packed { &taken } else { &taken[..4] })
        };
        self.names.entry(place).or_insert_with(taken).unique(&wanted)
    }

    /// A name that says what a value is: an input's or a parameter's name, or that of the one it is made of.
    fn field_name(&self, root: NodeId) -> String {
        let of_input = |input: Input| match input {
            Input::Batch => "b",
            Input::Head => "h",
            Input::Query | Input::Key => "position",
            Input::Scale => "scale",
            Input::LiveKeys => "live_keys",
            Input::Statistic => "statistic",
            Input::Delta => "delta",
            Input::Shift => "shift",
            Input::ArgMax => "arg_max",
            Input::QueryLen => "q_len",
            Input::KeyLen => "kv_len",
            Input::Reduction(Reduction::Sum) => "sum",
            Input::Reduction(Reduction::Max) => "max_weight",
            Input::Reduction(Reduction::SumSquares) => "sum_squares",
            Input::Row(row) => row.value.name(),
            Input::GreatestScore
            | Input::Probability
            | Input::HeadDim
            | Input::Size(_)
            | Input::Product
            | Input::Score
            | Input::OutputGradProduct
            | Input::FirstQuery
            | Input::LastQuery
            | Input::FirstKey
            | Input::LastKey => "value",
        };
        match self.graph.op(root) {
            Op::Parameter { parameter, .. } => return self.parameter_names[parameter.0 as usize].clone(),
            Op::Input(input) => return of_input(*input).to_owned(),
            Op::Cast(Type::Float, a) => return format!("{}_as_float", self.field_name(*a)),
            _ => {}
        }
        // the most telling leaf of a formula: a parameter, else a row's value, else the scale or a position
        let leaves = self.graph.reachable(&[root]);
        let parameter = leaves.iter().find_map(|&id| match self.graph.op(id) {
            Op::Parameter { parameter, .. } => Some(self.parameter_names[parameter.0 as usize].as_str()),
            _ => None,
        });
        let input = |wanted: &[Input]| {
            wanted.iter().find(|input| self.graph.reads(root, **input)).map(|input| of_input(*input))
        };
        let rows =
            [Input::Statistic, Input::Delta, Input::LiveKeys, Input::Query, Input::Key, Input::Scale, Input::KeyLen];
        let stem = parameter.or_else(|| input(&rows)).unwrap_or("value");
        let log2 = matches!(self.graph.op(root), Op::Binary(Binary::Mul, _, b)
            if self.graph.as_float(*b).is_some_and(|b| (b.abs() - std::f64::consts::LOG2_E).abs() < 1e-9));
        format!("{stem}_{}", if log2 { "log2" } else { "term" })
    }

    /// What a value of a row, a column or a tile of pairs needs of the batch and head becomes a field of the tile.
    pub(crate) fn demand_slower(&mut self, root: NodeId, place: Place) {
        if place == Place::Tile {
            return;
        }
        let mut stack = vec![root];
        let mut seen = std::collections::HashSet::new();
        while let Some(id) = stack.pop() {
            if self.is_constant(id) || !seen.insert(id) || self.places.get(&id).is_some_and(|(p, _)| *p == Place::Tile)
            {
                continue;
            }
            let rate = self.graph.rate(id);
            if rate.is_tile() && !rate.contains(Rate::TILE) {
                self.field(id, Place::Tile);
            } else {
                let mut operands = self.graph.op(id).operands();
                operands.reverse();
                stack.extend(operands);
            }
        }
    }

    /// Whether the values of columns are kept in shared memory: loading them reads memory or computes more than sums, so that it
    /// should be done once for all threads.
    pub(crate) fn is_staged(&self, place: Place) -> bool {
        self.fields.get(&place).is_some_and(|fields| {
            fields.iter().any(|field| {
                self.graph.any(field.node, |op| match op {
                    Op::Parameter { .. } => !self.graph.rate(field.node).is_tile(),
                    Op::Input(input) => is_row_array(*input) || *input == Input::LiveKeys,
                    Op::Unary(op, _) => !matches!(op, Unary::Neg | Unary::Abs | Unary::Not),
                    Op::Binary(Binary::Div | Binary::Rem, ..) => true,
                    _ => false,
                })
            })
        })
    }

    /// Whether the variant reads a parameter, once a pair, at the position that a place stands for.
    pub(crate) fn pairs_read_at(&self, place: Place) -> bool {
        let position = if place == Place::Query { Input::Query } else { Input::Key };
        self.graph.ids().any(|id| {
            let rate = self.graph.rate(id);
            matches!(self.graph.op(id), Op::Parameter { index, .. }
                if !rate.is_row() && !rate.is_column()
                    && index.iter().any(|&index| *self.graph.op(index) == Op::Input(position)))
        })
    }

    /// The fields that each column of a place keeps in shared memory.
    pub(crate) fn staged_fields(&self, place: Place) -> usize {
        if self.is_staged(place) { self.count(place) } else { 0 }
    }

    /// The inputs that any field reads.
    pub(crate) fn reads(&self, input: Input) -> bool {
        let fields = self.fields.values().flatten().map(|field| field.node);
        fields.chain(self.own.iter().copied()).any(|root| self.graph.any(root, |op| *op == Op::Input(input)))
    }

    /// Fields of a place.
    pub(crate) fn count(&self, place: Place) -> usize {
        self.fields.get(&place).map_or(0, Vec::len)
    }

    /// The names and types of a place's fields.
    pub(crate) fn field_names(&self, place: Place) -> Vec<(String, Type)> {
        let fields = self.fields.get(&place).map_or(&[][..], Vec::as_slice);
        fields.iter().map(|field| (field.name.clone(), self.graph.ty(field.node))).collect()
    }

    fn emitter(&self, known: HashMap<NodeId, String>) -> Emitter<'_> {
        Emitter {
            graph: self.graph,
            definition: self.definition,
            parameter_names: self.parameter_names,
            known,
            precise: self.precise,
            key_is_distance: false,
            lengths: self.packed.then_some("tile."),
            exact: self.exact,
            eager: self.eager,
        }
    }

    /// What has `q_len` and `kv_len`, where a function is given a tile.
    pub(crate) fn lengths_of(&self) -> &'static str {
        if self.packed { "tile" } else { "arguments" }
    }

    /// Emits a function's body over all fields and the inputs in `given`.
    pub(crate) fn body(&self, roots: &[NodeId], given: &[(Input, &str)]) -> (Vec<String>, Vec<String>) {
        let mut known = self.known_fields();
        self.know_inputs(&mut known, given);
        self.emitter(known).emit(roots)
    }

    /// The same for a function that is also given `Relative`.
    pub(crate) fn body_of_pair(&self, roots: &[NodeId], given: &[(Input, &str)]) -> (Vec<String>, Vec<String>) {
        self.emitter(self.known_of_pair(given)).emit(roots)
    }

    /// The same for a function that is also given the value of a node.
    pub(crate) fn body_given(
        &self,
        roots: &[NodeId],
        given: &[(Input, &str)],
        (node, name): (NodeId, &str),
    ) -> (Vec<String>, Vec<String>) {
        let mut known = self.known_of_pair(given);
        known.insert(node, name.to_owned());
        self.emitter(known).emit(roots)
    }

    /// What functions of pairs know.
    fn known_of_pair(&self, given: &[(Input, &str)]) -> HashMap<NodeId, String> {
        let mut known = self.known_fields();
        let relative = Place::Relative.instance();
        known.extend(self.relative_names.iter().map(|(id, name)| (*id, format!("{relative}.{name}"))));
        self.know_inputs(&mut known, given);
        known
    }

    /// The fields of the tile, the row and the column, by node.
    fn known_fields(&self) -> HashMap<NodeId, String> {
        self.places.iter().map(|(id, (place, name))| (*id, format!("{}.{name}", place.instance()))).collect()
    }

    /// Emits expressions that see the fields of the tile and the inputs in `given`.
    pub(crate) fn tile_body(&self, roots: &[NodeId], given: &[(Input, &str)]) -> (Vec<String>, Vec<String>) {
        let of_tile = self.places.iter().filter(|(_, (place, _))| *place == Place::Tile);
        let mut known: HashMap<NodeId, String> = of_tile.map(|(id, (_, name))| (*id, format!("tile.{name}"))).collect();
        self.know_inputs(&mut known, given);
        self.emitter(known).emit(roots)
    }

    fn know_inputs(&self, known: &mut HashMap<NodeId, String>, given: &[(Input, &str)]) {
        for id in self.graph.ids() {
            if let Op::Input(input) = self.graph.op(id) {
                if let Some((_, name)) = given.iter().find(|(other, _)| other == input) {
                    known.insert(id, (*name).to_owned());
                } else if *input == Input::HeadDim {
                    known.insert(id, self.head_dim.to_string());
                }
            }
        }
    }

    /// `struct Tile`, `struct Query`, `struct Key` or `struct Relative`.
    pub(crate) fn declare(&self, place: Place) -> String {
        let mut text = format!("struct {} {{", place.structure());
        let fields = self.fields.get(&place).map_or(&[][..], Vec::as_slice);
        if fields.is_empty() {
            text.push_str("};\n");
            return text;
        }
        text.push('\n');
        let parameters: Vec<&str> = self.parameter_names.iter().map(String::as_str).collect();
        let sizes: Vec<&str> = self.definition.sizes.iter().map(String::as_str).collect();
        for field in fields {
            let names = PrintNames { parameters: &parameters, sizes: &sizes };
            let formula = print_expression_with(self.graph, field.formula, names);
            let formula = comment(&formula);
            let formula = if formula.len() > 100 {
                format!("{}...", formula.chars().take(97).collect::<String>())
            } else {
                formula
            };
            writeln!(text, "    {} {};   // {formula}", type_name(self.graph.ty(field.node)), field.name)
                .expect("writing to a string");
        }
        text.push_str("};\n");
        text
    }

    /// The function that computes a place's fields.
    pub(crate) fn loader(&self, place: Place) -> String {
        let fields = self.fields.get(&place).map_or(&[][..], Vec::as_slice);
        let roots: Vec<NodeId> = fields.iter().map(|field| field.node).collect();
        let signature = match place {
            Place::Tile if self.packed => {
                "Tile load_tile_values(const Arguments& arguments, int batch, int head, int q_len, int kv_len)"
            }
            Place::Tile => "Tile load_tile_values(const Arguments& arguments, int batch, int head)",
            Place::Query => "Query load_query(const Arguments& arguments, const Tile& tile, int q, float q_as_float)",
            Place::Key => "Key load_key(const Arguments& arguments, const Tile& tile, int kv, float kv_as_float)",
            Place::Relative => {
                "Relative load_relative(const Arguments& arguments, const Tile& tile, int distance, float distance_as_float)"
            }
        };
        let (statements, values) = self.loaded(place, &roots, None);
        function(signature, &statements, &format!("{{{}}}", values.join(", ")))
    }

    /// A function of a row or a column that is no field, for what is asked for once.
    ///
    /// A `relative` position, a float of an integer, is counted from `origin`, which the function is given.
    pub(crate) fn own_function(&self, root: NodeId, place: Place, name: &str, relative: Option<NodeId>) -> String {
        let position = if place == Place::Query { "q" } else { "kv" };
        let origin = if relative.is_some() { "int origin" } else { "" };
        let whole = if relative.is_some() { String::new() } else { format!("float {position}_as_float") };
        let signature =
            format!("float {name}(const Arguments& arguments, const Tile& tile, int {position}, {whole}{origin})");
        let (statements, values) = self.loaded(place, &[root], relative);
        function(&signature, &statements, &values[0])
    }

    /// An integer function of a distance, of an expression at query 0.
    pub(crate) fn distance_function(&self, root: NodeId, name: &str) -> String {
        let signature =
            format!("int {name}(const Arguments& arguments, const Tile& tile, int distance, float distance_as_float)");
        let (statements, values) = self.loaded(Place::Relative, &[root], None);
        function(&signature, &statements, &values[0])
    }

    /// Statements and values of roots that are computed from memory and from the fields of the tile.
    fn loaded(&self, place: Place, roots: &[NodeId], relative: Option<NodeId>) -> (Vec<String>, Vec<String>) {
        let mut known: HashMap<NodeId, String> = HashMap::new();
        if place != Place::Tile {
            for (id, (of, name)) in &self.places {
                if *of == Place::Tile {
                    known.insert(*id, format!("tile.{name}"));
                }
            }
        }
        let mut reads_rows = false;
        let reachable = self.graph.reachable(roots);
        for &id in &reachable {
            if known.contains_key(&id) {
                continue;
            }
            if let Op::Input(input) = self.graph.op(id) {
                reads_rows |= is_row_array(*input) || (*input == Input::LiveKeys && self.counted_live_keys);
                let is_distance = place == Place::Relative && *input == Input::Key;
                known.insert(id, if is_distance { "distance".to_owned() } else { self.loaded_input(*input) });
            }
            if let Op::Cast(Type::Float, a) = self.graph.op(id) {
                match self.graph.op(*a) {
                    Op::Input(Input::Query) => known.insert(id, "q_as_float".into()),
                    Op::Input(Input::Key) if place == Place::Relative => known.insert(id, "distance_as_float".into()),
                    Op::Input(Input::Key) => known.insert(id, "kv_as_float".into()),
                    _ => None,
                };
            }
        }
        let emitter = |known| {
            let emitter = self.emitter(known);
            let lengths = emitter.lengths.map(|of| if place == Place::Tile { "" } else { of });
            Emitter { key_is_distance: place == Place::Relative, lengths, ..emitter }
        };
        let mut statements = vec![];
        if let Some((cast, Op::Cast(_, position))) = relative.map(|cast| (cast, self.graph.op(cast))) {
            let (before, text) = emitter(known.clone()).emit(&[*position]);
            statements = before;
            known.insert(cast, format!("(float)({} - origin)", text[0]));
        }
        let (rest, values) = emitter(known).emit(roots);
        statements.extend(rest);
        if reads_rows {
            let row = if self.packed {
                "const i64 row = (i64)tile.head * arguments.total_q + arguments.cu_seqlens_q[tile.batch] + q;"
            } else {
                "const i64 row = ((i64)tile.batch * arguments.heads + tile.head) * arguments.q_len + q;"
            };
            statements.insert(0, row.to_owned());
        }
        (statements, values)
    }

    fn loaded_input(&self, input: Input) -> String {
        let text = match input {
            Input::Batch => "batch",
            Input::Head => "head",
            Input::Query => "q",
            Input::Key => "kv",
            Input::Scale => "arguments.scale",
            Input::QueryLen if self.packed => "q_len",
            Input::KeyLen if self.packed => "kv_len",
            Input::QueryLen => "arguments.q_len",
            Input::KeyLen => "arguments.kv_len",
            Input::HeadDim => return self.head_dim.to_string(),
            Input::Size(id) => return format!("arguments.size_{}", self.size_names[id.0 as usize]),
            Input::LiveKeys if self.counted_live_keys => "arguments.live_keys[row]",
            Input::LiveKeys => "live_key_count(arguments, tile, q)",
            Input::Statistic => "arguments.statistic[row]",
            Input::Shift => "arguments.shift[row]",
            Input::Reduction(Reduction::Sum) => "arguments.sum[row]",
            Input::Reduction(Reduction::Max) => "arguments.max_weight[row]",
            Input::Reduction(Reduction::SumSquares) => "arguments.sum_squares[row]",
            Input::ArgMax => "__float_as_int(arguments.arg_max[row])",
            Input::Delta => "arguments.delta[row]",
            Input::Row(row) if row.value.ty() == Type::Int => return format!("__float_as_int(arguments.{row}[row])"),
            Input::Row(row) => return format!("arguments.{row}[row]"),
            Input::Product
            | Input::Score
            | Input::OutputGradProduct
            | Input::FirstQuery
            | Input::LastQuery
            | Input::FirstKey
            | Input::GreatestScore
            | Input::Probability
            | Input::LastKey => unreachable!("{input:?} is no field"),
        };
        text.to_owned()
    }
}

/// Inputs that are read from an array of rows.
fn is_row_array(input: Input) -> bool {
    matches!(
        input,
        Input::Statistic | Input::Shift | Input::Reduction(_) | Input::ArgMax | Input::Delta | Input::Row(_)
    )
}

/// A function of statements and one value.
pub(crate) fn function(signature: &str, statements: &[String], value: &str) -> String {
    let mut text = format!("__device__ __forceinline__ {signature} {{\n");
    for statement in statements {
        writeln!(text, "    {statement}").expect("writing to a string");
    }
    writeln!(text, "    return {value};\n}}").expect("writing to a string");
    text
}
