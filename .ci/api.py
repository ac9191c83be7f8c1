"""Prints the public interface that rustdoc's JSON describes, one sorted line for each item; see `api`.

Left out are auto traits, blanket implementations, and the methods of trait implementations. The path of an item is whole;
the types in its signature are named without their modules.
"""

import json
import sys

crate = json.load(open(sys.argv[1], encoding="utf-8"))
index = crate["index"]
lines = set()


def item(id):
    return index.get(str(id))


def last(path):
    return path.rsplit("::", 1)[-1]


def comma(parts):
    return ", ".join(part for part in parts if part)


def args(found):
    if not found:
        return ""
    if "parenthesized" in found:
        found = found["parenthesized"]
        output = f" -> {type_(found['output'])}" if found["output"] else ""
        return f"({comma(map(type_, found['inputs']))}){output}"
    found = found.get("angle_bracketed", {"args": [], "constraints": []})
    parts = []
    for arg in found["args"]:
        kind, value = next(iter(arg.items())) if isinstance(arg, dict) else (arg, "_")
        parts.append(type_(value) if kind == "type" else value["expr"] if kind == "const" else value)
    for constraint in found["constraints"]:
        kind, value = next(iter(constraint["binding"].items()))
        right = " = " + type_(value["type"]) if kind == "equality" else ": " + bounds(value)
        parts.append(constraint["name"] + args(constraint["args"]) + right)
    return f"<{comma(parts)}>" if parts else ""


def bound(found):
    kind, value = next(iter(found.items()))
    if kind == "outlives":
        return value
    if kind == "use":
        return f"use<{comma(next(iter(arg.values())) for arg in value)}>"
    prefix = {"none": "", "maybe": "?", "maybe_const": "~const "}[value["modifier"]]
    return higher(value["generic_params"]) + prefix + last(value["trait"]["path"]) + args(value["trait"]["args"])


def bounds(found):
    return " + ".join(map(bound, found))


def higher(params):
    return f"for<{comma(param['name'] for param in params)}> " if params else ""


def type_(found):
    kind, value = next(iter(found.items()))
    match kind:
        case "generic" | "primitive":
            return value
        case "resolved_path":
            return last(value["path"]) + args(value["args"])
        case "borrowed_ref":
            lifetime = value["lifetime"] + " " if value["lifetime"] else ""
            return f"&{lifetime}{'mut ' if value['is_mutable'] else ''}{type_(value['type'])}"
        case "raw_pointer":
            return f"*{'mut' if value['is_mutable'] else 'const'} {type_(value['type'])}"
        case "tuple":
            return f"({comma(map(type_, value))}{',' if len(value) == 1 else ''})"
        case "slice":
            return f"[{type_(value)}]"
        case "array":
            return f"[{type_(value['type'])}; {value['len']}]"
        case "impl_trait":
            return f"impl {bounds(value)}"
        case "dyn_trait":
            traits = [bound({"trait_bound": {**found, "modifier": "none"}}) for found in value["traits"]]
            return "dyn " + " + ".join(traits + ([value["lifetime"]] if value["lifetime"] else []))
        case "qualified_path":
            trait = f" as {last(value['trait']['path'])}{args(value['trait']['args'])}" if value["trait"] else ""
            of = type_(value["self_type"])
            return f"<{of}{trait}>::{value['name']}" if trait else f"{of}::{value['name']}"
        case "function_pointer":
            return higher(value["generic_params"]) + "fn" + signature(value["sig"])
        case _:
            raise ValueError(f"an unknown kind of type: {kind}")


def generics(found):
    """The parameters with their bounds, and the where clause."""
    params = []
    for param in found["params"]:
        kind, value = next(iter(param["kind"].items()))
        if kind == "type" and not value["is_synthetic"]:
            more = ": " + bounds(value["bounds"]) if value["bounds"] else ""
            params.append(param["name"] + more + (" = " + type_(value["default"]) if value["default"] else ""))
        elif kind == "lifetime":
            params.append(param["name"] + (": " + " + ".join(value["outlives"]) if value["outlives"] else ""))
        elif kind == "const":
            params.append(f"const {param['name']}: {type_(value['type'])}")
    clauses = []
    for predicate in found["where_predicates"]:
        kind, value = next(iter(predicate.items()))
        if kind == "bound_predicate":
            clauses.append(f"{higher(value['generic_params'])}{type_(value['type'])}: {bounds(value['bounds'])}")
        elif kind == "lifetime_predicate":
            clauses.append(f"{value['lifetime']}: {' + '.join(value['outlives'])}")
        else:
            clauses.append(f"{type_(value['lhs'])} = {type_(value['rhs']['type'])}")
    return f"<{comma(params)}>" if params else "", f" where {comma(clauses)}" if clauses else ""


def signature(sig):
    inputs = []
    for name, of in sig["inputs"]:
        of = type_(of)
        itself = {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}.get(of, f"self: {of}")
        inputs.append(itself if name == "self" else f"{name}: {of}" if name else of)
    return f"({comma(inputs)})" + (f" -> {type_(sig['output'])}" if sig["output"] else "")


def function(path, found):
    header = found["header"]
    words = "".join(word + " " for word in ("const", "async", "unsafe") if header[f"is_{word}"])
    params, where = generics(found["generics"])
    lines.add(f"pub {words}fn {path}{params}{signature(found['sig'])}{where}")


def fields(path, ids):
    for found in filter(None, map(item, ids)):
        lines.add(f"pub {path}::{found['name']}: {type_(found['inner']['struct_field'])}")


def impls(path, ids):
    for found in filter(None, map(item, ids)):
        found = found["inner"]["impl"]
        if found["is_synthetic"] or found["blanket_impl"]:
            continue
        params, where = generics(found["generics"])
        if found["trait"]:
            trait = last(found["trait"]["path"])
            # How the compiler marks derived equality; nobody can name it.
            if trait != "StructuralPartialEq":
                sign = "!" if found["is_negative"] else ""
                lines.add(f"impl{params} {sign}{trait}{args(found['trait']['args'])} for {type_(found['for'])}{where}")
            continue
        before = set(lines)
        for member in filter(None, map(item, found["items"])):
            public(path, member)
        if where or ":" in params:  # what a method demands of its type
            for line in lines - before:
                lines.remove(line)
                lines.add(f"{line} // impl{params}{where}")


def public(path, found):
    """One item that stands under `path`."""
    kind, value = next(iter(found["inner"].items()))
    if kind == "use":
        target = item(value["id"])
        if target is None:
            lines.add(f"pub use {path}::{value['name']} = {value['source']}")
        elif value["is_glob"]:
            members(path, target)
        else:
            public(path, {**target, "name": value["name"]})
        return
    path = f"{path}::{found['name']}"
    params, where = generics(value["generics"]) if isinstance(value, dict) and "generics" in value else ("", "")
    if any("non_exhaustive" in attr for attr in found["attrs"]):
        where += " #[non_exhaustive]"
    match kind:
        case "module":
            lines.add(f"pub mod {path}")
            members(path, found)
        case "struct" | "union":
            lines.add(f"pub {kind} {path}{params}{where}")
            shape = value.get("kind", {})
            if isinstance(shape, dict):
                plain = shape.get("plain", {"fields": value.get("fields", [])})["fields"]
                fields(path, shape.get("tuple", plain))
            impls(path, value["impls"])
        case "enum":
            lines.add(f"pub enum {path}{params}{where}")
            for variant in filter(None, map(item, value["variants"])):
                public(path, variant)
            impls(path, value["impls"])
        case "variant":
            shape = value["kind"]
            if shape == "plain":
                lines.add(f"pub {path}{where}")
            elif "tuple" in shape:
                parts = [type_(item(id)["inner"]["struct_field"]) for id in shape["tuple"] if item(id)]
                lines.add(f"pub {path}({comma(parts)}){where}")
            else:
                lines.add(f"pub {path} {{ .. }}{where}")
                fields(path, shape["struct"]["fields"])
        case "trait":
            more = ": " + bounds(value["bounds"]) if value["bounds"] else ""
            lines.add(f"pub trait {path}{params}{more}{where}")
            for member in filter(None, map(item, value["items"])):
                public(path, member)
        case "function":
            function(path, value)
        case "type_alias":
            lines.add(f"pub type {path}{params}{where} = {type_(value['type'])}")
        case "constant" | "assoc_const" | "static":
            lines.add(f"pub const {path}: {type_(value['type'])}")
        case "assoc_type":
            right = f" = {type_(value['type'])}" if value["type"] else ""
            lines.add(f"pub type {path}{right}")
        case "macro" | "proc_macro":
            lines.add(f"pub macro {path}!")
        case _:
            raise ValueError(f"an unknown kind of item: {kind}")


def members(path, module):
    for member in filter(None, map(item, module["inner"]["module"]["items"])):
        public(path, member)


members("state_dictionary", item(crate["root"]))
print("\n".join(sorted(lines)))
