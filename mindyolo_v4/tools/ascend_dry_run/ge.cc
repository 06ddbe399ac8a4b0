// Stand-ins for the classes of CANN's graph engine (namespace ge) that MindSpore's back end uses.
//
// Class names, signatures and sizes are CANN's public interface, because MindSpore's libraries are
// compiled against it (old ABI: -D_GLIBCXX_USE_CXX11_ABI=0). An operator remembers its type, its
// inputs and the descriptions of its tensors; a graph is complete when MindSpore sets its outputs.
// `ascend_dry_run_write` writes both to a file: type, name, inputs and outputs of an operator,
// separated by tabs, or "graph NAME". A tensor is TYPE:D1xD2x... with TYPE as CANN numbers them.

#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ge {

using graphStatus = uint32_t;
constexpr graphStatus SUCCESS = 0;
constexpr graphStatus FAILED = 0xFFFFFFFF;
enum DataType : int {};
enum Format : int {};
enum Placement : int {};

class AscendString {
 public:
  explicit AscendString(const char *text);
  const char *GetString() const;
  bool operator<(const AscendString &other) const;

 private:
  std::shared_ptr<std::string> text_;
};

AscendString::AscendString(const char *text) : text_(new std::string(text ? text : "")) {}
const char *AscendString::GetString() const { return text_ ? text_->c_str() : ""; }
bool AscendString::operator<(const AscendString &other) const {
  return strcmp(GetString(), other.GetString()) < 0;
}

// Shapes, tensor descriptions, tensors.

class Shape {
 public:
  Shape();
  explicit Shape(const std::vector<int64_t> &dims);
  std::vector<int64_t> GetDims() const;
  size_t GetDimNum() const;
  int64_t GetDim(size_t index) const;
  graphStatus SetDim(size_t index, int64_t size);
  int64_t GetShapeSize() const;

 private:
  std::shared_ptr<std::vector<int64_t>> dims_;
};

Shape::Shape() : dims_(new std::vector<int64_t>) {}
Shape::Shape(const std::vector<int64_t> &dims) : dims_(new std::vector<int64_t>(dims)) {}
std::vector<int64_t> Shape::GetDims() const { return *dims_; }
size_t Shape::GetDimNum() const { return dims_->size(); }
int64_t Shape::GetDim(size_t index) const { return index < dims_->size() ? (*dims_)[index] : 0; }
graphStatus Shape::SetDim(size_t index, int64_t size) {
  if (index >= dims_->size()) return FAILED;
  dims_ = std::make_shared<std::vector<int64_t>>(*dims_);
  (*dims_)[index] = size;
  return SUCCESS;
}
int64_t Shape::GetShapeSize() const {
  int64_t size = 1;
  for (int64_t dim : *dims_) size *= dim;
  return size;
}

struct Description {
  Shape shape, origin_shape;
  DataType type = DataType(0);
  Format format = Format(2), origin_format = Format(2);  // ND
  Placement placement = Placement(0);                    // host
};

class TensorDesc {
 public:
  TensorDesc();
  explicit TensorDesc(Shape shape, Format format, DataType type);
  TensorDesc(const TensorDesc &other);
  TensorDesc(TensorDesc &&other);
  TensorDesc &operator=(const TensorDesc &other);
  TensorDesc &operator=(TensorDesc &&other);
  void SetShape(const Shape &shape);
  Shape GetShape() const;
  graphStatus SetOriginShape(const Shape &shape);
  Shape GetOriginShape() const;
  void SetDataType(DataType type);
  DataType GetDataType() const;
  void SetFormat(Format format);
  Format GetFormat() const;
  void SetOriginFormat(Format format);
  void SetPlacement(Placement placement);
  Placement GetPlacement() const;
  void SetRealDimCnt(const int64_t count);

 private:
  std::shared_ptr<Description> all_;
};

TensorDesc::TensorDesc() : all_(new Description) {}
TensorDesc::TensorDesc(Shape shape, Format format, DataType type) : TensorDesc() {
  all_->shape = all_->origin_shape = shape;
  all_->format = all_->origin_format = format;
  all_->type = type;
}
TensorDesc::TensorDesc(const TensorDesc &other) : all_(new Description(*other.all_)) {}
TensorDesc::TensorDesc(TensorDesc &&other) : TensorDesc(static_cast<const TensorDesc &>(other)) {}
TensorDesc &TensorDesc::operator=(const TensorDesc &other) {
  *all_ = *other.all_;
  return *this;
}
TensorDesc &TensorDesc::operator=(TensorDesc &&other) {
  return *this = static_cast<const TensorDesc &>(other);
}
void TensorDesc::SetShape(const Shape &shape) { all_->shape = shape; }
Shape TensorDesc::GetShape() const { return all_->shape; }
graphStatus TensorDesc::SetOriginShape(const Shape &shape) {
  all_->origin_shape = shape;
  return SUCCESS;
}
Shape TensorDesc::GetOriginShape() const { return all_->origin_shape; }
void TensorDesc::SetDataType(DataType type) { all_->type = type; }
DataType TensorDesc::GetDataType() const { return all_->type; }
void TensorDesc::SetFormat(Format format) { all_->format = format; }
Format TensorDesc::GetFormat() const { return all_->format; }
void TensorDesc::SetOriginFormat(Format format) { all_->origin_format = format; }
void TensorDesc::SetPlacement(Placement placement) { all_->placement = placement; }
Placement TensorDesc::GetPlacement() const { return all_->placement; }
void TensorDesc::SetRealDimCnt(const int64_t) {}

class Tensor {
 public:
  using Deleter = std::function<void(uint8_t *)>;
  Tensor();
  explicit Tensor(const TensorDesc &desc);
  Tensor(const TensorDesc &desc, const uint8_t *data, size_t size);
  TensorDesc GetTensorDesc() const;
  graphStatus SetTensorDesc(const TensorDesc &desc);
  uint8_t *GetData();
  const uint8_t *GetData() const;
  size_t GetSize() const;
  std::unique_ptr<uint8_t[], Deleter> ResetData();
  graphStatus SetData(uint8_t *data, size_t size, const Deleter &deleter);
  graphStatus SetData(const uint8_t *data, size_t size);
  graphStatus SetData(const std::string &data);
  graphStatus SetData(const std::vector<std::string> &data);

 private:
  struct Content {
    TensorDesc desc;
    uint8_t *data = nullptr;
    size_t size = 0;
  };
  std::shared_ptr<Content> content_;
};

// The values of constants are not kept: nobody computes with them.
Tensor::Tensor() : content_(new Content) {}
Tensor::Tensor(const TensorDesc &desc) : Tensor() { content_->desc = desc; }
Tensor::Tensor(const TensorDesc &desc, const uint8_t *, size_t size) : Tensor(desc) {
  content_->size = size;
}
TensorDesc Tensor::GetTensorDesc() const { return content_->desc; }
graphStatus Tensor::SetTensorDesc(const TensorDesc &desc) {
  content_->desc = desc;
  return SUCCESS;
}
uint8_t *Tensor::GetData() { return content_->data; }
const uint8_t *Tensor::GetData() const { return content_->data; }
size_t Tensor::GetSize() const { return content_->size; }
std::unique_ptr<uint8_t[], Tensor::Deleter> Tensor::ResetData() {
  uint8_t *data = content_->data;
  content_->data = nullptr;
  content_->size = 0;
  return std::unique_ptr<uint8_t[], Deleter>(data, [](uint8_t *) {});
}
graphStatus Tensor::SetData(uint8_t *data, size_t size, const Deleter &) {
  content_->data = data;
  content_->size = size;
  return SUCCESS;
}
graphStatus Tensor::SetData(const uint8_t *, size_t size) {
  content_->size = size;
  return SUCCESS;
}
graphStatus Tensor::SetData(const std::string &) { return SUCCESS; }
graphStatus Tensor::SetData(const std::vector<std::string> &) { return SUCCESS; }

// Operators.

struct Input;

struct OperatorImpl {
  std::string name, type;
  std::map<std::string, int64_t> numbers;  // attributes
  std::map<std::string, uint32_t> dynamic_outputs;
  std::vector<std::string> output_names;
  std::map<std::string, TensorDesc> input_descs, output_descs;
  std::vector<std::pair<std::string, Input>> inputs;  // in the order in which they were set
};

struct Input {
  std::shared_ptr<OperatorImpl> source;
  std::string output;  // of the source; empty: the only one
};

std::vector<std::shared_ptr<OperatorImpl>> &operators() {
  static auto *all = new std::vector<std::shared_ptr<OperatorImpl>>;  // never destroyed
  return *all;
}

class Graph;

class Operator {
 public:
  explicit Operator(const char *type);
  Operator(const char *name, const char *type);
  Operator(const AscendString &name, const AscendString &type);
  explicit Operator(const std::string &type);
  Operator(const std::string &name, const std::string &type);
  virtual ~Operator() = default;

  std::string GetName() const;
  graphStatus GetName(AscendString &name) const;
  std::string GetOpType() const;
  graphStatus GetOpType(AscendString &type) const;

  Operator &SetInput(const char *name, const Operator &source);
  Operator &SetInput(const char *name, uint32_t index, const Operator &source);
  Operator &SetInput(const char *name, uint32_t index, const Operator &source, const char *output);
  Operator &SetInput(const std::string &name, const Operator &source);
  Operator &SetInput(const std::string &name, const Operator &source, const std::string &output);
  Operator &AddControlInput(const Operator &source);

  graphStatus UpdateInputDesc(const char *name, const TensorDesc &desc);
  graphStatus UpdateInputDesc(const std::string &name, const TensorDesc &desc);
  graphStatus UpdateOutputDesc(const char *name, const TensorDesc &desc);
  graphStatus UpdateOutputDesc(const std::string &name, const TensorDesc &desc);
  graphStatus UpdateDynamicOutputDesc(const char *name, uint32_t index, const TensorDesc &desc);
  TensorDesc GetOutputDesc(const std::string &name) const;
  TensorDesc GetOutputDesc(uint32_t index) const;
  int GetDynamicOutputNum(const std::string &name) const;

  void InputRegister(const char *name, const char *types);
  void InputRegister(const std::string &name);
  void OptionalInputRegister(const char *name, const char *types);
  void OptionalInputRegister(const std::string &name);
  void OutputRegister(const char *name, const char *types);
  void OutputRegister(const std::string &name);
  void DynamicInputRegister(const char *name, const uint32_t count, const char *types, bool back);
  void DynamicInputRegister(const char *name, const uint32_t count, bool back);
  void DynamicOutputRegister(const char *name, const uint32_t count, const char *types, bool back);
  void DynamicOutputRegister(const char *name, const uint32_t count, bool back);

  // MindSpore sorts inputs by such an attribute; nobody reads those of other types.
  void AttrRegister(const char *name, int64_t number);
  Operator &SetAttr(const char *name, int64_t number);
  graphStatus GetAttr(const char *name, int64_t &number) const;

  void SubgraphCountRegister(const char *name, uint32_t count);
  void SetSubgraphBuilder(const char *name, uint32_t index,
                          const std::function<Graph()> &builder);

  std::shared_ptr<OperatorImpl> impl;

 private:
  Operator &Connect(const std::string &name, const Operator &source, const std::string &output);
  void RegisterDynamicOutput(const std::string &name, uint32_t count);
};

Operator::Operator(const std::string &name, const std::string &type) : impl(new OperatorImpl) {
  impl->name = name;
  impl->type = type;
  operators().push_back(impl);
}
Operator::Operator(const char *name, const char *type)
    : Operator(std::string(name), std::string(type)) {}
Operator::Operator(const AscendString &name, const AscendString &type)
    : Operator(std::string(name.GetString()), std::string(type.GetString())) {}
Operator::Operator(const std::string &type) : Operator(std::string(), type) {}
Operator::Operator(const char *type) : Operator(std::string(), std::string(type)) {}

// MindSpore makes operators without content by an inline constructor, which leaves `impl` empty.
std::string Operator::GetName() const { return impl ? impl->name : ""; }
graphStatus Operator::GetName(AscendString &name) const {
  name = AscendString(GetName().c_str());
  return SUCCESS;
}
std::string Operator::GetOpType() const { return impl ? impl->type : ""; }
graphStatus Operator::GetOpType(AscendString &type) const {
  type = AscendString(GetOpType().c_str());
  return SUCCESS;
}

Operator &Operator::Connect(const std::string &name, const Operator &source,
                            const std::string &output) {
  Input input{source.impl, output};
  for (auto &known : impl->inputs) {
    if (known.first == name) {
      known.second = input;
      return *this;
    }
  }
  impl->inputs.emplace_back(name, input);
  return *this;
}
Operator &Operator::SetInput(const char *name, const Operator &source) {
  return Connect(name, source, "");
}
Operator &Operator::SetInput(const char *name, uint32_t index, const Operator &source) {
  return Connect(name + std::to_string(index), source, "");
}
Operator &Operator::SetInput(const char *name, uint32_t index, const Operator &source,
                             const char *output) {
  return Connect(name + std::to_string(index), source, output);
}
Operator &Operator::SetInput(const std::string &name, const Operator &source) {
  return Connect(name, source, "");
}
Operator &Operator::SetInput(const std::string &name, const Operator &source,
                             const std::string &output) {
  return Connect(name, source, output);
}
Operator &Operator::AddControlInput(const Operator &) { return *this; }

graphStatus Operator::UpdateInputDesc(const std::string &name, const TensorDesc &desc) {
  impl->input_descs[name] = desc;
  return SUCCESS;
}
graphStatus Operator::UpdateInputDesc(const char *name, const TensorDesc &desc) {
  return UpdateInputDesc(std::string(name), desc);
}
graphStatus Operator::UpdateOutputDesc(const std::string &name, const TensorDesc &desc) {
  impl->output_descs[name] = desc;
  return SUCCESS;
}
graphStatus Operator::UpdateOutputDesc(const char *name, const TensorDesc &desc) {
  return UpdateOutputDesc(std::string(name), desc);
}
graphStatus Operator::UpdateDynamicOutputDesc(const char *name, uint32_t index,
                                              const TensorDesc &desc) {
  return UpdateOutputDesc(name + std::to_string(index), desc);
}
TensorDesc Operator::GetOutputDesc(const std::string &name) const {
  auto found = impl->output_descs.find(name);
  return found == impl->output_descs.end() ? TensorDesc() : found->second;
}
TensorDesc Operator::GetOutputDesc(uint32_t index) const {
  const auto &names = impl->output_names;
  return index < names.size() ? GetOutputDesc(names[index]) : TensorDesc();
}
int Operator::GetDynamicOutputNum(const std::string &name) const {
  auto found = impl->dynamic_outputs.find(name);
  return found == impl->dynamic_outputs.end() ? 0 : found->second;
}

void Operator::InputRegister(const char *, const char *) {}
void Operator::InputRegister(const std::string &) {}
void Operator::OptionalInputRegister(const char *, const char *) {}
void Operator::OptionalInputRegister(const std::string &) {}
void Operator::OutputRegister(const char *name, const char *) {
  impl->output_names.push_back(name);
}
void Operator::OutputRegister(const std::string &name) { impl->output_names.push_back(name); }
void Operator::DynamicInputRegister(const char *, const uint32_t, const char *, bool) {}
void Operator::DynamicInputRegister(const char *, const uint32_t, bool) {}
void Operator::RegisterDynamicOutput(const std::string &name, uint32_t count) {
  for (uint32_t index = impl->dynamic_outputs[name]; index < count; ++index) {
    impl->output_names.push_back(name + std::to_string(index));
  }
  impl->dynamic_outputs[name] = count;
}
void Operator::DynamicOutputRegister(const char *name, const uint32_t count, const char *, bool) {
  RegisterDynamicOutput(name, count);
}
void Operator::DynamicOutputRegister(const char *name, const uint32_t count, bool) {
  RegisterDynamicOutput(name, count);
}
void Operator::AttrRegister(const char *name, int64_t number) { impl->numbers[name] = number; }
Operator &Operator::SetAttr(const char *name, int64_t number) {
  impl->numbers[name] = number;
  return *this;
}
graphStatus Operator::GetAttr(const char *name, int64_t &number) const {
  auto found = impl->numbers.find(name);
  if (found == impl->numbers.end()) return FAILED;
  number = found->second;
  return SUCCESS;
}
void Operator::SubgraphCountRegister(const char *, uint32_t) {}
void Operator::SetSubgraphBuilder(const char *, uint32_t, const std::function<Graph()> &) {}

// What operators say of their types while they are made; the objects hold one pointer.

class TensorType {
 public:
  explicit TensorType(const std::initializer_list<DataType> &types);

 private:
  std::shared_ptr<void> types_;
};

TensorType::TensorType(const std::initializer_list<DataType> &) {}

class Promote {
 public:
  explicit Promote(const std::initializer_list<const char *> &names);

 private:
  std::shared_ptr<void> names_;
};

Promote::Promote(const std::initializer_list<const char *> &) {}

// What creates operators by their type: the definitions inside MindSpore's own libraries.

using Creator = std::function<Operator(const AscendString &)>;

std::map<std::string, Creator> &creators() {
  static auto *all = new std::map<std::string, Creator>;
  return *all;
}

class OperatorCreatorRegister {
 public:
  OperatorCreatorRegister(const char *type, const Creator &creator);
  OperatorCreatorRegister(const std::string &type,
                          const std::function<Operator(const std::string &)> &creator);
};

OperatorCreatorRegister::OperatorCreatorRegister(const char *type, const Creator &creator) {
  creators()[type] = creator;
}
OperatorCreatorRegister::OperatorCreatorRegister(
    const std::string &type, const std::function<Operator(const std::string &)> &creator) {
  creators()[type] = [creator](const AscendString &name) { return creator(name.GetString()); };
}

class OperatorFactory {
 public:
  static Operator CreateOperator(const char *name, const char *type);
  static Operator CreateOperator(const std::string &name, const std::string &type);
  static bool IsExistOp(const char *type);
  static bool IsExistOp(const std::string &type);
};

Operator OperatorFactory::CreateOperator(const char *name, const char *type) {
  auto found = creators().find(type);
  return found == creators().end() ? Operator(name, type) : found->second(AscendString(name));
}
Operator OperatorFactory::CreateOperator(const std::string &name, const std::string &type) {
  return CreateOperator(name.c_str(), type.c_str());
}
bool OperatorFactory::IsExistOp(const char *) { return true; }
bool OperatorFactory::IsExistOp(const std::string &) { return true; }

// Graphs.

struct Complete {
  std::string name;
  size_t operators;  // made before it was complete
};

std::vector<Complete> &complete_graphs() {
  static auto *all = new std::vector<Complete>;
  return *all;
}

// MindSpore makes a few more operators that a training never runs: to save variables, say.
static void note_complete(const std::string &name) {
  if (name != "checkpoint") complete_graphs().push_back({name, operators().size()});
}

class GNode {
 private:
  std::shared_ptr<void> node_;
};

class Graph {
 public:
  explicit Graph(const char *name);
  explicit Graph(const std::string &name);
  const std::string &GetName() const;
  Graph &SetInputs(const std::vector<Operator> &inputs);
  Graph &SetOutputs(const std::vector<Operator> &outputs);
  Graph &SetOutputs(const std::vector<std::pair<Operator, std::string>> &outputs);
  std::vector<GNode> GetDirectNode() const;

 private:
  std::shared_ptr<std::string> name_;
};

Graph::Graph(const char *name) : name_(new std::string(name)) {}
Graph::Graph(const std::string &name) : name_(new std::string(name)) {}
const std::string &Graph::GetName() const { return *name_; }
Graph &Graph::SetInputs(const std::vector<Operator> &) { return *this; }
Graph &Graph::SetOutputs(const std::vector<Operator> &) {
  note_complete(*name_);
  return *this;
}
Graph &Graph::SetOutputs(const std::vector<std::pair<Operator, std::string>> &) {
  note_complete(*name_);
  return *this;
}
std::vector<GNode> Graph::GetDirectNode() const { return {}; }

static std::string text_of(const TensorDesc &desc) {
  std::string text = std::to_string(desc.GetDataType()) + ":";
  const auto dims = desc.GetShape().GetDims();
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    text += (axis ? "x" : "") + std::to_string(dims[axis]);
  }
  return text;
}

static std::string text_of(const std::string &name, const Input &input, const OperatorImpl &op) {
  const auto own = op.input_descs.find(name);
  if (own != op.input_descs.end()) return text_of(own->second);
  if (!input.source) return "?";
  const auto &descs = input.source->output_descs;
  const auto found = input.output.empty() ? descs.begin() : descs.find(input.output);
  return found == descs.end() ? "?" : text_of(found->second);
}

static void write(std::ostream &file, const OperatorImpl &op) {
  file << op.type << '\t' << op.name << '\t';
  for (const auto &input : op.inputs) file << text_of(input.first, input.second, op) << ' ';
  file << '\t';
  for (const auto &output : op.output_descs) file << text_of(output.second) << ' ';
  file << '\n';
}

}  // namespace ge

// Write the complete graphs since the last call, each after the operators before it; return 0.
extern "C" int ascend_dry_run_write(const char *path) {
  std::ofstream file(path);
  size_t written = 0;
  for (const auto &graph : ge::complete_graphs()) {
    for (; written < graph.operators; ++written) ge::write(file, *ge::operators()[written]);
    file << "graph\t" << graph.name << '\n';
  }
  ge::operators().clear();
  ge::complete_graphs().clear();
  return file.good() ? 0 : 1;
}
