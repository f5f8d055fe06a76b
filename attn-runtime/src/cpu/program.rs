//! Expressions compiled to straight-line programs over vectors.
//!
//! Every node of the graph becomes a step of the stage that its rate names: once a tile, once a row, once a column or once a
//! pair. A stage is run when what it depends on changes: rows once a query tile, columns and pairs once a key tile.
//!
//! Invariants: operands of a step were computed by an earlier step, of the same stage or of one that it contains; pair
//! registers are reused after their last use, all others and the roots' are not.

use std::collections::HashMap;

use attn_dsl::ir::{Graph, Input, NodeId, Op, Rate, Type};

/// How often a value is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Stage {
    Tile,
    Row,
    Column,
    Pair,
}

impl Stage {
    pub(super) fn of(rate: Rate) -> Stage {
        if rate.is_tile() {
            Stage::Tile
        } else if rate.is_row() {
            Stage::Row
        } else if rate.is_column() {
            Stage::Column
        } else {
            Stage::Pair
        }
    }
}

/// Where a step finds an operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Float(f32),
    Int(i32),
    Bool(bool),
    Input(Input),
    Register { stage: Stage, ty: Type, register: usize },
}

impl Operand {
    fn stage(self) -> Stage {
        match self {
            Operand::Float(_) | Operand::Int(_) | Operand::Bool(_) => Stage::Tile,
            Operand::Input(input) => Stage::of(Rate::of_input(input)),
            Operand::Register { stage, .. } => stage,
        }
    }
}

/// One operation: `op` names it, its own operand ids are not used.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    pub(super) operands: Vec<Operand>,
    pub(super) ty: Type,
    pub(super) register: usize,
}

/// The steps of some roots.
#[derive(Clone, Debug)]
pub(super) struct Program {
    stages: [Vec<Step>; 4],
    roots: Vec<Operand>,
    /// Registers by type: float, int, bool. The stage of each, by which it is sized.
    registers: [Vec<Stage>; 3],
}

/// The position of a type's registers.
pub(super) fn bank(ty: Type) -> usize {
    match ty {
        Type::Float => 0,
        Type::Int => 1,
        Type::Bool => 2,
    }
}

impl Program {
    pub(super) fn new(graph: &Graph, roots: &[NodeId]) -> Program {
        let order = graph.reachable(roots);
        let mut last_use: HashMap<NodeId, NodeId> = HashMap::new();
        for &id in &order {
            for operand in graph.op(id).operands() {
                last_use.insert(operand, id);
            }
        }
        let mut program = Program { stages: Default::default(), roots: Vec::new(), registers: Default::default() };
        let mut place: HashMap<NodeId, Operand> = HashMap::new();
        let mut free: [Vec<usize>; 3] = Default::default();
        for &id in &order {
            let op = graph.op(id);
            let operand = match op {
                Op::Float(bits) => Operand::Float(f64::from_bits(*bits) as f32),
                Op::Int(x) => Operand::Int(*x),
                Op::Bool(x) => Operand::Bool(*x),
                Op::Input(input) => Operand::Input(*input),
                _ => {
                    let (ty, stage) = (graph.ty(id), Stage::of(graph.rate(id)));
                    // Taken before the operands' are given back: a step never writes what it reads.
                    let reused = if stage == Stage::Pair { free[bank(ty)].pop() } else { None };
                    let register = reused.unwrap_or_else(|| {
                        program.registers[bank(ty)].push(stage);
                        program.registers[bank(ty)].len() - 1
                    });
                    let nodes = op.operands();
                    let operands = nodes.iter().map(|a| place[a]).collect();
                    program.stages[stage as usize].push(Step { op: op.clone(), operands, ty, register });
                    let mut done: Vec<NodeId> = nodes;
                    done.sort_unstable();
                    done.dedup();
                    for a in done {
                        if let Operand::Register { stage: Stage::Pair, ty, register } = place[&a]
                            && last_use[&a] == id
                            && !roots.contains(&a)
                        {
                            free[bank(ty)].push(register);
                        }
                    }
                    Operand::Register { stage, ty, register }
                }
            };
            place.insert(id, operand);
        }
        program.roots = roots.iter().map(|root| place[root]).collect();
        program
    }

    pub(super) fn steps(&self, stage: Stage) -> &[Step] {
        &self.stages[stage as usize]
    }

    pub(super) fn root(&self, index: usize) -> Operand {
        self.roots[index]
    }

    /// How often a root varies.
    pub(super) fn root_stage(&self, index: usize) -> Stage {
        self.roots[index].stage()
    }

    pub(super) fn registers(&self, ty: Type) -> &[Stage] {
        &self.registers[bank(ty)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attn_dsl::ir::Unary;

    #[test]
    fn pair_registers_are_reused_and_rates_are_hoisted() {
        let mut graph = Graph::new();
        let x = graph.input(Input::Product);
        let q = graph.input(Input::Query);
        let row = graph.cast(Type::Float, q);
        let row = graph.unary(Unary::Sqrt, row);
        let mut value = graph.product(x, row);
        for _ in 0..10 {
            value = graph.unary(Unary::Tanh, value);
            value = graph.unary(Unary::Sin, value);
        }
        let program = Program::new(&graph, &[value]);
        assert_eq!(program.steps(Stage::Row).len(), 2);
        assert_eq!(program.steps(Stage::Pair).len(), 21);
        let pairs = program.registers(Type::Float).iter().filter(|s| **s == Stage::Pair).count();
        assert_eq!(pairs, 2, "a chain needs two registers");
        assert_eq!(program.root_stage(0), Stage::Pair);
    }
}
